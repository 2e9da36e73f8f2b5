//! The lease of a run: taken, held by this process, given back.

use super::{
    RunError, guest,
    plan::{Plan, Tenant},
};
use crate::{
    api,
    cli::{
        client::Client, error::Error, lease_time::LeaseTime, progress::Progress, session::Session,
        slices::with_slice_hint,
    },
};
use serde::Serialize;
use std::{process, time::Duration};
use tokio::task;
use vgpud_vmm::holders;

/// After this long it is worth saying who still holds the device.
const DELAY: Duration = Duration::from_secs(3);

/// A leased slice.
#[derive(Debug)]
pub struct Held {
    slice: api::Slice,
    end: End,
}

/// What becomes of the lease afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Release,
    Keep,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Returned {
    Released,
    Kept,
}

impl Held {
    /// Leases the slice, or uses the lease that the given owner has.
    ///
    /// # Errors
    /// Where vgpud refuses or fails.
    pub async fn take(session: &Session, client: &Client, plan: &Plan) -> Result<Self, Error> {
        if let Tenant::Given(owner) = &plan.tenant {
            let slice = match client.slice(&plan.slice).await {
                Ok(slice) => slice,
                Err(error) => return Err(with_slice_hint(client, &plan.slice, error).await),
            };
            if slice.lease.as_ref().is_some_and(|lease| lease.owner == owner.as_ref()) {
                session.note(&format!("{}: using the lease of {owner}, and keeping it", plan.slice));
                return Ok(Self { slice, end: End::Keep });
            }
        }
        let progress = Progress::start(session, format!("handing {} over", plan.slice));
        let request = api::LeaseSliceRequest {
            id: plan.slice.clone(),
            owner: plan.owner().to_owned(),
            holder: Some(api::Holder { pid: process::id() }),
            // QEMU runs as whoever runs vgpuctl.
            user: Some(nix::unistd::geteuid().to_string()),
            time_ms: plan.time.map(LeaseTime::ms),
        };
        let leased = client.lease(request).await;
        drop(progress);
        match leased {
            Ok(slice) => {
                session.note(&format!("{}: leased to {}", plan.slice, plan.owner()));
                Ok(Self { slice, end: End::Release })
            }
            Err(error) => Err(with_slice_hint(client, &plan.slice, error).await),
        }
    }

    #[must_use]
    pub const fn slice(&self) -> &api::Slice {
        &self.slice
    }

    /// Gives the slice back, unless the lease was there before. While that takes long, says who
    /// holds the device. The connection is a new one: vgpud may have been restarted meanwhile, which
    /// disturbs no micro-VM.
    ///
    /// # Errors
    /// Where vgpud refuses or fails, with the holders.
    pub async fn give_back(self, session: &Session) -> Result<Returned, Error> {
        let id = &self.slice.id;
        if self.end == End::Keep {
            return Ok(Returned::Kept);
        }
        let mut progress = Progress::start(session, format!("taking {id} back"));
        let request = api::ReleaseSliceRequest { id: id.clone(), generation: Some(self.slice.generation) };
        let mut release = std::pin::pin!(async { session.connect().await?.release(request).await });
        let released = loop {
            tokio::select! {
                released = &mut release => break released,
                () = tokio::time::sleep(DELAY) => {
                    let delay = self.delay(session).await;
                    progress.tell(&format!("{id}: still being taken back{delay}"));
                }
            }
        };
        drop(progress);
        match released {
            Ok(_) => {
                session.note(&format!("{id}: taken back"));
                Ok(Returned::Released)
            }
            // Its time was up, and vgpud was faster.
            Err(error) if error.says_lease_has_ended() => Ok(Returned::Released),
            Err(source) => {
                let holders = self.holders(session).await;
                let source = Box::new(source);
                Err(RunError::NotBack { slice: id.clone(), holders, source }.into())
            }
        }
    }

    /// Why it takes long: who holds the device, or what vgpud waits for.
    async fn delay(&self, session: &Session) -> String {
        let holders = self.holders(session).await;
        if !holders.is_empty() {
            return holders;
        }
        // Only a word beside the answer that is waited for: where it cannot be had, none is said.
        let asked = async { session.connect().await?.slice(&self.slice.id).await };
        let waiting = asked.await.ok().and_then(|slice| slice.waiting_for);
        waiting.map_or_else(String::new, |what| format!("; vgpud waits to {what}"))
    }

    /// `, held by …`, or nothing where nobody is seen: to see every process takes root.
    async fn holders(&self, session: &Session) -> String {
        let (host, nodes) = (session.host().clone(), guest::nodes(&self.slice));
        let seen = task::spawn_blocking(move || holders::holders(&host, &nodes)).await;
        let Ok(Ok(seen)) = seen else { return String::new() };
        let names: Vec<String> = seen.iter().map(ToString::to_string).collect();
        if names.is_empty() { String::new() } else { format!(", held by {}", names.join(", ")) }
    }
}
