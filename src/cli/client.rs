//! The calls of vgpud's API, each with its deadline.

use super::{connection, error::Error};
use crate::api::{self, vgpud_client::VgpudClient};
use std::{future::Future, path::Path, time::Duration};
use tokio::time::timeout;
use tonic::{Response, Status, Streaming, transport::Channel};
use vgpud_config::Settings;

/// vgpud answers a question from the ledger and sysfs: a matter of milliseconds.
const READ: Duration = Duration::from_secs(30);

/// A connection to vgpud.
#[derive(Clone, Debug)]
pub struct Client {
    stub: VgpudClient<Channel>,
    act: Duration,
}

/// How long a change may take before vgpud is taken for hanging: its own deadlines for the device
/// for making it clean and for its holder, for the request itself and for one that is before it in the queue.
pub(crate) fn patience(settings: &Settings) -> Duration {
    (settings.timeouts.device + settings.scrub.deadline + settings.timeouts.release) * 2 + READ
}

async fn within<T>(
    asked: &'static str,
    waited: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Error> {
    match timeout(waited, call).await {
        Ok(answer) => answer.map_err(Error::from),
        Err(_) => Err(Error::Silent { asked, waited }),
    }
}

/// A stream of answers.
#[derive(Debug)]
pub struct Answers<T> {
    stream: Streaming<T>,
    asked: &'static str,
    /// Between two answers; none where the next may come at any time.
    waited: Option<Duration>,
}

impl<T> Answers<T> {
    /// The next answer, or none at the end.
    ///
    /// # Errors
    /// What vgpud refuses or fails at, and its silence.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        match self.waited {
            Some(waited) => within(self.asked, waited, self.stream.message()).await,
            None => Ok(self.stream.message().await?),
        }
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Where vgpud cannot be reached.
    pub async fn connect(socket: &Path, settings: &Settings) -> Result<Self, Error> {
        Ok(Self { stub: connection::connect(socket).await?, act: patience(settings) })
    }

    pub async fn status(&self) -> Result<api::Status, Error> {
        let mut stub = self.stub.clone();
        within("tell its status", READ, stub.get_status(api::GetStatusRequest {}))
            .await
            .map(Response::into_inner)
    }

    pub async fn gpus(&self) -> Result<Vec<api::Gpu>, Error> {
        let mut stub = self.stub.clone();
        let answer = within("list the GPUs", READ, stub.list_gpus(api::ListGpusRequest {})).await?;
        Ok(answer.into_inner().gpus)
    }

    pub async fn profiles(&self, request: api::Request) -> Result<Vec<api::Profile>, Error> {
        let mut stub = self.stub.clone();
        let request = api::ListProfilesRequest { request: Some(request) };
        let answer = within("list the profiles", READ, stub.list_profiles(request)).await?;
        Ok(answer.into_inner().profiles)
    }

    pub async fn slices(&self, request: api::ListSlicesRequest) -> Result<Vec<api::Slice>, Error> {
        let mut stub = self.stub.clone();
        let answer = within("list the slices", READ, stub.list_slices(request)).await?;
        Ok(answer.into_inner().slices)
    }

    pub async fn slice(&self, id: &str) -> Result<api::Slice, Error> {
        let mut stub = self.stub.clone();
        let request = api::GetSliceRequest { id: id.to_owned() };
        within("show a slice", READ, stub.get_slice(request)).await.map(Response::into_inner)
    }

    pub async fn create(
        &self,
        request: api::CreateSlicesRequest,
    ) -> Result<Answers<api::CreateProgress>, Error> {
        let (mut stub, asked) = (self.stub.clone(), "create slices");
        let answer = within(asked, self.act, stub.create_slices(request)).await?;
        Ok(Answers { stream: answer.into_inner(), asked, waited: Some(self.act) })
    }

    /// Waits for what is under way on the host, as vgpud does.
    pub async fn plan_layout(&self, layout: Option<String>) -> Result<api::LayoutPlan, Error> {
        let mut stub = self.stub.clone();
        let asked = stub.plan_layout(api::PlanLayoutRequest { layout });
        within("plan a layout", self.act, asked).await.map(Response::into_inner)
    }

    pub async fn apply_layout(
        &self,
        request: api::ApplyLayoutRequest,
    ) -> Result<Answers<api::ApplyProgress>, Error> {
        let (mut stub, asked) = (self.stub.clone(), "apply a layout");
        let answer = within(asked, self.act, stub.apply_layout(request)).await?;
        Ok(Answers { stream: answer.into_inner(), asked, waited: Some(self.act) })
    }

    pub async fn lease(&self, request: api::LeaseSliceRequest) -> Result<api::Slice, Error> {
        let mut stub = self.stub.clone();
        within("lease a slice", self.act, stub.lease_slice(request)).await.map(Response::into_inner)
    }

    pub async fn extend(&self, request: api::ExtendLeaseRequest) -> Result<api::Slice, Error> {
        let mut stub = self.stub.clone();
        within("extend a lease", self.act, stub.extend_lease(request)).await.map(Response::into_inner)
    }

    pub async fn release(&self, request: api::ReleaseSliceRequest) -> Result<api::Slice, Error> {
        let mut stub = self.stub.clone();
        within("release a slice", self.act, stub.release_slice(request)).await.map(Response::into_inner)
    }

    pub async fn destroy(&self, request: api::DestroySliceRequest) -> Result<(), Error> {
        let mut stub = self.stub.clone();
        within("destroy a slice", self.act, stub.destroy_slice(request)).await.map(|_| ())
    }

    pub async fn verify(&self, request: api::VerifySliceRequest) -> Result<api::VerifySliceResponse, Error> {
        let mut stub = self.stub.clone();
        within("check a slice", self.act, stub.verify_slice(request)).await.map(Response::into_inner)
    }

    pub async fn history(&self, request: api::ListHistoryRequest) -> Result<api::ListHistoryResponse, Error> {
        let mut stub = self.stub.clone();
        within("tell its history", READ, stub.list_history(request)).await.map(Response::into_inner)
    }

    pub async fn quarantine(&self) -> Result<api::ListQuarantineResponse, Error> {
        let mut stub = self.stub.clone();
        let asked = stub.list_quarantine(api::ListQuarantineRequest {});
        within("list what is quarantined", READ, asked).await.map(Response::into_inner)
    }

    pub async fn quarantine_slice(&self, request: api::QuarantineSliceRequest) -> Result<api::Slice, Error> {
        let mut stub = self.stub.clone();
        let asked = stub.quarantine_slice(request);
        within("quarantine a slice", READ, asked).await.map(Response::into_inner)
    }

    pub async fn quarantine_gpu(
        &self,
        request: api::QuarantineGpuRequest,
    ) -> Result<api::QuarantinedGpu, Error> {
        let mut stub = self.stub.clone();
        let asked = stub.quarantine_gpu(request);
        within("quarantine a GPU", READ, asked).await.map(Response::into_inner)
    }

    pub async fn clear_gpu(
        &self,
        request: api::ClearGpuQuarantineRequest,
    ) -> Result<api::ClearGpuQuarantineResponse, Error> {
        let mut stub = self.stub.clone();
        let asked = stub.clear_gpu_quarantine(request);
        within("clear a GPU", READ, asked).await.map(Response::into_inner)
    }

    pub async fn clear(&self, request: api::ClearQuarantineRequest) -> Result<api::Slice, Error> {
        let mut stub = self.stub.clone();
        within("clear a quarantine", self.act, stub.clear_quarantine(request)).await.map(Response::into_inner)
    }

    pub async fn events(&self, request: api::WatchEventsRequest) -> Result<Answers<api::Event>, Error> {
        let (mut stub, asked) = (self.stub.clone(), "tell its events");
        let waited = (!request.follow).then_some(READ);
        let answer = within(asked, READ, stub.watch_events(request)).await?;
        Ok(Answers { stream: answer.into_inner(), asked, waited })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_daemon_is_told_with_what_it_was_asked() {
        let silence = std::future::pending::<Result<(), Status>>();
        let error = within("list the GPUs", Duration::from_millis(1), silence).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("within 1ms") && text.contains("asked to list the GPUs"), "{text}");
    }

    #[test]
    fn a_change_may_take_as_long_as_vgpud_itself_waits() {
        let settings = Settings::default();
        let (timeouts, scrub) = (&settings.timeouts, &settings.scrub);
        assert!(patience(&settings) > timeouts.device + scrub.deadline + timeouts.release);
    }
}
