//! QEMU from its start to its end, beside signals and a console whose reader may leave.

use super::{
    RunError,
    console::Console,
    ending::{Cause, Ended},
    limit,
    plan::{Device, Plan},
    signals::Signals,
};
use crate::{
    api,
    cli::{error::Error, session::Session},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::oneshot, task};
use vgpud_mdev::VfioNodes;
use vgpud_vmm::{
    micro_vm::RunningVm,
    node::{self, Node},
};

/// How long QEMU has to end after SIGTERM: it writes nothing back and lets the device go at once.
const STOP: Duration = Duration::from_secs(10);

/// Runs the micro-VM to its end.
///
/// # Errors
/// Where it cannot be started, watched or ended.
pub async fn run(
    session: &Session,
    plan: &Plan,
    slice: &api::Slice,
    signals: &mut Signals,
) -> Result<Ended, Error> {
    let vm_failed = |source| RunError::MicroVm { slice: plan.slice.clone(), source };
    let device = device(session, plan, slice)?;
    session.note(&format!("{}: starting a micro-VM on {}", plan.slice, device.node.path().display()));
    let (mut console, console_failed) = Console::new();
    let vm =
        plan.micro_vm(device).spawn(session.host(), move |bytes| console.write(bytes)).map_err(vm_failed)?;
    let vm = Arc::new(vm);
    watch(session, plan, slice, &vm, console_failed, signals).await
}

async fn watch(
    session: &Session,
    plan: &Plan,
    slice: &api::Slice,
    vm: &Arc<RunningVm>,
    mut console_failed: oneshot::Receiver<Error>,
    signals: &mut Signals,
) -> Result<Ended, Error> {
    let waiting = Arc::clone(vm);
    let mut end = task::spawn_blocking(move || waiting.wait(None));
    let cause = tokio::select! {
        ended = &mut end => {
            let outcome = ended.map_err(RunError::Thread)?.map_err(|source| failed(plan, source))?;
            // Without a limit of time, the wait ends with an outcome only.
            let outcome = outcome.ok_or_else(|| untold(plan, "end"))?;
            return Ok(Ended { outcome, cause: lost_console(&mut console_failed) });
        }
        signal = signals.next() => {
            session.note(&format!("{}: {signal}: asking QEMU to end, at most {} s", plan.slice, STOP.as_secs()));
            Cause::Signal(signal)
        }
        Ok(error) = &mut console_failed => Cause::Console(error),
        () = limit::time_is_up(session, slice) => {
            session.note(&format!(
                "{}: the time of its lease is up: asking QEMU to end, at most {} s",
                plan.slice,
                STOP.as_secs()
            ));
            Cause::TimeIsUp
        }
    };
    let stopping = Arc::clone(vm);
    let stopped = task::spawn_blocking(move || stopping.stop(STOP));
    let outcome = stopped.await.map_err(RunError::Thread)?.map_err(|source| failed(plan, source))?;
    Ok(Ended { outcome, cause })
}

/// A console that broke in the last moment.
fn lost_console(console_failed: &mut oneshot::Receiver<Error>) -> Cause {
    console_failed.try_recv().map_or(Cause::Itself, Cause::Console)
}

fn failed(plan: &Plan, source: vgpud_vmm::Error) -> RunError {
    RunError::MicroVm { slice: plan.slice.clone(), source }
}

fn untold(plan: &Plan, what: &'static str) -> RunError {
    RunError::Untold { slice: plan.slice.clone(), what }
}

/// The slice's device and the node through which the micro-VM opens it: the one that vgpud handed
/// over, unless the caller insists on a kind.
fn device(session: &Session, plan: &Plan, slice: &api::Slice) -> Result<Device, RunError> {
    let unreadable = |name: &String| RunError::Unreadable { slice: plan.slice.clone(), name: name.clone() };
    let handed = slice.lease.as_ref().and_then(|lease| lease.node.as_ref());
    let node = match (plan.node, handed) {
        (None, Some(handed)) => Node::from_path(handed),
        (kind, _) => node::choose(session.host(), &nodes(slice), kind.unwrap_or_default()),
    };
    Ok(Device {
        address: match &slice.address {
            Some(address) => Some(address.parse().map_err(|_| unreadable(address))?),
            None => None,
        },
        mdev: match &slice.mdev_uuid {
            Some(uuid) => Some(uuid.parse().map_err(|_| unreadable(uuid))?),
            None => None,
        },
        sysfs: slice.sysfs_path.as_ref().map(PathBuf::from).ok_or_else(|| untold(plan, "folder in sysfs"))?,
        node: node.map_err(|source| failed(plan, source))?,
    })
}

/// The nodes of a slice's device.
#[must_use]
pub fn nodes(slice: &api::Slice) -> VfioNodes {
    VfioNodes {
        group: slice.group_node.as_ref().map(PathBuf::from),
        cdev: slice.cdev_node.as_ref().map(PathBuf::from),
    }
}
