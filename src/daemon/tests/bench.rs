//! A daemon on a fake host, a client of its API, and executors that hang or die.

use crate::{
    api::{self, create_progress::Step, vgpud_client::VgpudClient},
    daemon::{
        Daemon, Options, Prepared, StartError,
        executor::{Done, EffectError, Executor, GpuSeen, HostExecutor, HostSeen},
        message::Message,
        options::LogFormat,
    },
    engine::{Effect, Retiring, SliceId, State, Target, invariants},
};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{net::UnixStream, sync::watch};
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use vgpud_config::{PciAddress, Settings};
use vgpud_mdev::{
    self as mdev, Host, InstanceName,
    fake::{FakeGpu, FakeHost, FakeMdevType, Machine},
};
use vgpud_vmm::{
    device::process::{DeviceWork, Job, Preflight, ProcessError},
    preflight::{Check, CheckName, Level, Outcome},
    scrub::{self, Evidence, ResetEvidence, Stage, VendorClear, Verdict},
};

pub const SRIOV: &str = "0000:41:00.0";
pub const MDEV: &str = "0000:42:00.0";
pub const SECOND: &str = "0000:43:00.0";

/// Longest that anything may take here.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A SR-IOV GPU with 8 VFs, an mdev parent, and another SR-IOV GPU.
pub fn machine() -> Machine {
    let types = [FakeMdevType::new("sim-small", 1, "num_heads=1, framebuffer=32M, max_instance=8")];
    FakeHost::machine()
        .gpu(FakeGpu::new(SRIOV).sriov(8))
        .gpu(FakeGpu::new(MDEV).class(0x03_0000).mdev(8, &types))
        .gpu(FakeGpu::new(SECOND).sriov(4))
}

pub struct Bench {
    pub fake: FakeHost,
    pub host: Host,
    pub folder: TempDir,
    pub settings: Settings,
    pub devices: Arc<FakeDevices>,
    daemon: Option<Daemon>,
    pub client: Option<VgpudClient<Channel>>,
}

/// Plays the processes that work on devices: a VF is clean after its reset, and a mediated device
/// has none.
#[derive(Debug, Default)]
pub struct FakeDevices {
    /// What a scrub comes to, where it is not clean.
    pub unclean: Mutex<Option<Verdict>>,
    pub vendor_clear: Mutex<VendorClear>,
    /// What becomes of a reset, where it is something special.
    pub reset: Mutex<Option<ResetEvidence>>,
    /// At what a scrub or a check hangs, where it does.
    pub hangs: Mutex<Option<Stage>>,
    /// Held by a test that wants checks to wait.
    pub checking: Arc<tokio::sync::Mutex<()>>,
}

impl DeviceWork for FakeDevices {
    fn scrub(&self, job: &Job, within: Duration) -> Result<Evidence, ProcessError> {
        if let Some(stage) = *self.hangs.lock().unwrap() {
            return Err(ProcessError::Late { stage, within });
        }
        let reset = match job.name {
            InstanceName::Vf(_) | InstanceName::Whole => ResetEvidence::Done { methods: "flr".to_owned() },
            InstanceName::Mdev(_) => ResetEvidence::NotOffered,
        };
        let reset = self.reset.lock().unwrap().clone().unwrap_or(reset);
        let bytes_checked = job.memory.unwrap_or_default();
        let steps = vec![scrub::Step::ReadBack { bytes: bytes_checked }];
        let (bytes_found, read_back_us, duration_us) = (0, 1, 1);
        let verdict = self.unclean.lock().unwrap().clone().unwrap_or(Verdict::Clean);
        let vendor_clear = self.vendor_clear.lock().unwrap().clone();
        Ok(Evidence {
            verdict,
            reset,
            vendor_clear,
            steps,
            bytes_checked,
            bytes_found,
            read_back_us,
            duration_us,
        })
    }

    fn preflight(&self, _: &Job, _: Duration) -> Preflight {
        let _turn = self.checking.blocking_lock();
        let check = Check { name: CheckName::Driver, outcome: Outcome::Pass { seen: "vfio-pci".to_owned() } };
        let within = Duration::from_secs(1);
        let late = self.hangs.lock().unwrap().map(|stage| ProcessError::Late { stage, within });
        Preflight { checks: vec![check], ended: late.map_or(Ok(()), Err) }
    }
}

/// What went wrong, as the client sees it.
#[derive(Debug)]
pub struct Refused {
    pub reason: String,
    pub text: String,
}

impl From<tonic::Status> for Refused {
    fn from(status: tonic::Status) -> Self {
        let failure = api::Failure::decode(status.details()).unwrap();
        Self { reason: failure.reason, text: format!("{}\n{}", failure.message, failure.causes.join("\n")) }
    }
}

impl Bench {
    pub fn new(machine: &Machine) -> Self {
        let fake = machine.build();
        let host = fake.host();
        std::fs::create_dir_all(host.path("/proc")).unwrap();
        let mut settings = Settings::default();
        settings.timeouts.release = Duration::from_millis(500);
        settings.timeouts.device = Duration::from_secs(10);
        settings.scrub.deadline = Duration::ZERO;
        let (folder, devices) = (TempDir::new().unwrap(), Arc::default());
        Self { fake, host, folder, settings, devices, daemon: None, client: None }
    }

    pub async fn started(machine: &Machine) -> Self {
        let mut bench = Self::new(machine);
        bench.start(None).await;
        bench
    }

    pub fn real_executor(&self) -> Arc<dyn Executor> {
        let (sender, settings) = watch::channel(Arc::new(self.settings.clone()));
        std::mem::forget(sender);
        let lookout = Arc::new(self.host.clone());
        Arc::new(HostExecutor::new(self.host.clone(), settings, Arc::clone(&self.devices) as _, lookout))
    }

    pub async fn start(&mut self, executor: Option<Arc<dyn Executor>>) {
        let options = Options {
            config: None,
            root: None,
            socket: Some(self.socket()),
            state_dir: Some(self.folder.path().to_owned()),
            log: LogFormat::Text,
            check_config: false,
        };
        let (settings, host) = (self.settings.clone(), self.host.clone());
        let executor = executor.or_else(|| Some(self.real_executor()));
        let prepared = Prepared::unconfined(&options, settings, host).unwrap();
        self.daemon = Some(Daemon::start_with(prepared, executor).await.unwrap());
        let path = self.socket();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://vgpud").connect_with_connector(connector).await.unwrap();
        self.client = Some(VgpudClient::new(channel));
    }

    /// The host's name for its present boot.
    pub fn boot(&self, id: &str) {
        let folder = self.host.path("/proc/sys/kernel/random");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("boot_id"), id).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("vgpud.sock")
    }

    pub async fn crash(&mut self) {
        self.client = None;
        self.daemon.take().unwrap().crash().await;
    }

    pub async fn stop(&mut self) {
        self.client = None;
        self.daemon.take().unwrap().stop().await.unwrap();
    }

    /// Why it has ended by itself.
    pub async fn ended(&mut self) -> StartError {
        self.client = None;
        self.daemon.take().unwrap().stop().await.unwrap_err()
    }

    pub fn client(&self) -> VgpudClient<Channel> {
        self.client.clone().unwrap()
    }

    pub fn tell(&self, message: Message) {
        self.daemon.as_ref().unwrap().handle().sender.send(message).unwrap();
    }

    /// `count` slices of a profile on a GPU, perhaps with an owner.
    pub async fn create(
        &self,
        profile: &str,
        gpu: &str,
        count: u32,
        owner: Option<&str>,
    ) -> Result<Vec<api::Slice>, Refused> {
        create(self.client(), profile, gpu, count, owner).await
    }

    pub async fn lease(&self, id: &str, holder: Option<u32>) -> Result<api::Slice, Refused> {
        self.lease_to("pod-a", id, holder).await
    }

    pub async fn lease_to(&self, owner: &str, id: &str, holder: Option<u32>) -> Result<api::Slice, Refused> {
        let holder = holder.map(|pid| api::Holder { pid });
        let request =
            api::LeaseSliceRequest { id: id.into(), owner: owner.into(), holder, ..Default::default() };
        Ok(self.client().lease_slice(request).await?.into_inner())
    }

    pub async fn release(&self, id: &str) -> Result<api::Slice, Refused> {
        let request = api::ReleaseSliceRequest { id: id.into(), generation: None };
        Ok(self.client().release_slice(request).await?.into_inner())
    }

    pub async fn destroy(&self, id: &str) -> Result<(), Refused> {
        let request = api::DestroySliceRequest { id: id.into(), release: true };
        self.client().destroy_slice(request).await?;
        Ok(())
    }

    pub async fn clear(&self, id: &str) -> Result<api::Slice, Refused> {
        let request = api::ClearQuarantineRequest { id: id.into() };
        Ok(self.client().clear_quarantine(request).await?.into_inner())
    }

    pub async fn slices(&self) -> Vec<api::Slice> {
        let request = api::ListSlicesRequest::default();
        self.client().list_slices(request).await.unwrap().into_inner().slices
    }

    pub async fn phases(&self) -> BTreeMap<String, api::Phase> {
        self.slices().await.into_iter().map(|slice| (slice.id.clone(), slice.phase())).collect()
    }

    pub async fn events(&self) -> Vec<api::Event> {
        let request = api::WatchEventsRequest { follow: false, after: 0 };
        let stream = self.client().watch_events(request).await.unwrap().into_inner();
        stream.map(Result::unwrap).collect().await
    }

    /// Waits until every slice stands still.
    pub async fn at_rest(&self) {
        let mut snapshot = self.daemon.as_ref().unwrap().handle().snapshot;
        let rest = snapshot.wait_for(|now| stands_still(&now.state));
        tokio::time::timeout(LIMIT, rest).await.expect("every slice stands still in time").unwrap();
    }

    /// Whether every slice stands still now, and no CDI file is left to be removed.
    pub fn is_settled(&self) -> bool {
        let now = Arc::clone(&self.daemon.as_ref().unwrap().handle().snapshot.borrow());
        let leased =
            |id: &SliceId| now.state.slices.get(id).is_some_and(|slice| slice.phase.lease().is_some());
        stands_still(&now.state) && self.cdi_files().iter().all(leased)
    }

    pub async fn until(&self, what: &str, so: impl Fn(&BTreeMap<String, api::Phase>) -> bool) {
        let begin = Instant::now();
        loop {
            let phases = self.phases().await;
            if so(&phases) {
                return;
            }
            assert!(begin.elapsed() < LIMIT, "waited in vain for {what}: {:#?}", self.slices().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Instances on the host, CDI files and slices belong together; the invariants hold.
    pub async fn check(&self) {
        let executor = self.real_executor();
        let now = Arc::clone(&self.daemon.as_ref().unwrap().handle().snapshot.borrow());
        assert_eq!(invariants::of_state(&now.state), Vec::<String>::new());
        for seen in executor.look_at_all(&[]).unwrap().gpus {
            for instance in seen.instances {
                let owned = now.state.uses(instance.gpu, instance.name);
                assert!(owned, "{} of {} belongs to no slice", instance.name, instance.gpu);
            }
        }
        let leased = now.state.slices.values().filter(|slice| slice.phase.lease().is_some());
        let leased: BTreeSet<SliceId> = leased.map(|slice| slice.id).collect();
        let begin = Instant::now();
        // They come in order of name, where s10 is before s2.
        let published = || executor.published().unwrap().into_iter().collect::<BTreeSet<_>>();
        // Files of ended leases are removed on another thread.
        while published() != leased {
            assert!(begin.elapsed() < LIMIT, "CDI files {:?}", executor.published());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The host's files, without those that an empty CDI folder or a process leaves.
    pub fn files(&self) -> BTreeMap<PathBuf, String> {
        let kept = |path: &PathBuf| !path.starts_with("proc");
        self.fake.snapshot().into_iter().filter(|(path, _)| kept(path)).collect()
    }

    pub fn cdi_files(&self) -> Vec<SliceId> {
        self.real_executor().published().unwrap()
    }

    /// A process that has a node open, as /proc shows it.
    pub fn hold(&self, node: &str, pid: u32) {
        let process = self.host.path(format!("/proc/{pid}"));
        std::fs::create_dir_all(process.join("fd")).unwrap();
        std::fs::write(process.join("comm"), "qemu-system-x86\n").unwrap();
        std::os::unix::fs::symlink(node, process.join("fd/7")).unwrap();
    }

    pub fn let_go(&self, pid: u32) {
        std::fs::remove_dir_all(self.host.path(format!("/proc/{pid}"))).unwrap();
    }
}

fn stands_still(state: &State) -> bool {
    state.slices.values().all(|slice| slice.at_rest() && slice.tie.is_none())
        && state.cuts.values().all(|cut| cut.retiring == Retiring::Idle)
}

pub async fn create(
    mut client: VgpudClient<Channel>,
    profile: &str,
    gpu: &str,
    count: u32,
    owner: Option<&str>,
) -> Result<Vec<api::Slice>, Refused> {
    let request = api::Request { profile: Some(profile.into()), gpu: Some(gpu.into()), ..Default::default() };
    let owner = owner.map(str::to_owned);
    let request = api::CreateSlicesRequest { request: Some(request), count, owner, ..Default::default() };
    let mut steps = client.create_slices(request).await?.into_inner();
    while let Some(step) = steps.next().await {
        if let Some(Step::Done(done)) = step?.step {
            return Ok(done.slices);
        }
    }
    panic!("the stream ended without an answer");
}

/// At which instant of the n-th effect the daemon dies or hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// An executor that stops at one effect until it is let go.
#[derive(Debug)]
pub struct Gate {
    inner: Arc<dyn Executor>,
    at: usize,
    side: Side,
    place: Mutex<Place>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Place {
    seen: usize,
    reached: Option<String>,
    kind: Option<&'static str>,
    opened: Option<Opened>,
    /// Effects under way.
    running: usize,
}

/// How an effect goes on after the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    GoOn,
    /// The daemon that wanted it is dead.
    Dead,
}

impl Gate {
    pub fn new(inner: Arc<dyn Executor>, at: usize, side: Side) -> Arc<Self> {
        Arc::new(Self { inner, at, side, place: Mutex::default(), moved: Condvar::new() })
    }

    /// The effect at which it stands, if it has come there.
    pub fn reached(&self) -> Option<String> {
        self.place.lock().unwrap().reached.clone()
    }

    /// The kind of that effect.
    pub fn kind(&self) -> Option<&'static str> {
        self.place.lock().unwrap().kind
    }

    pub async fn until_reached(&self) -> String {
        let begin = Instant::now();
        loop {
            if let Some(effect) = self.reached() {
                return effect;
            }
            assert!(begin.elapsed() < LIMIT, "the effect never came");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn open(&self) {
        self.place.lock().unwrap().opened = Some(Opened::GoOn);
        self.moved.notify_all();
    }

    /// What stands at the gate does not go on, as its daemon is dead. Its other threads died with it:
    /// they begin nothing more, and what the kernel is at comes to its end first.
    pub fn bury(&self) {
        let mut place = self.place.lock().unwrap();
        place.opened = Some(Opened::Dead);
        self.moved.notify_all();
        drop(place);
        self.until_idle();
    }

    pub fn is_idle(&self) -> bool {
        self.place.lock().unwrap().running == 0
    }

    /// Waits until no effect is under way.
    pub fn until_idle(&self) {
        let place = self.place.lock().unwrap();
        let (place, _) = self.moved.wait_timeout_while(place, LIMIT, |place| place.running > 0).unwrap();
        assert_eq!(place.running, 0, "an effect does not end");
    }

    fn pass(&self, effect: &Effect, here: bool) -> Result<Done, EffectError> {
        if here && self.side == Side::Before && self.stand(effect) == Opened::Dead {
            return Err(EffectError::WorkerLost(SRIOV.parse().unwrap()));
        }
        let result = self.inner.run(effect);
        if here && self.side == Side::After {
            self.stand(effect);
        }
        result
    }

    fn stand(&self, effect: &Effect) -> Opened {
        let mut place = self.place.lock().unwrap();
        place.reached = Some(effect.to_string());
        place.kind = Some(effect.word());
        let (place, _) = self.moved.wait_timeout_while(place, LIMIT, |place| place.opened.is_none()).unwrap();
        place.opened.expect("somebody opens the gate")
    }
}

impl Executor for Gate {
    fn run(&self, effect: &Effect) -> Result<Done, EffectError> {
        let here = {
            let mut place = self.place.lock().unwrap();
            if place.opened == Some(Opened::Dead) {
                return Err(EffectError::WorkerLost(SRIOV.parse().unwrap()));
            }
            place.running += 1;
            let here = place.seen == self.at;
            place.seen += 1;
            here
        };
        let result = self.pass(effect, here);
        self.place.lock().unwrap().running -= 1;
        self.moved.notify_all();
        result
    }

    fn verify(&self, target: &Target, level: Level) -> Result<Preflight, EffectError> {
        self.inner.verify(target, level)
    }

    fn look(&self, gpu: PciAddress) -> Result<Option<GpuSeen>, mdev::Error> {
        self.inner.look(gpu)
    }

    fn look_at_all(&self, at_work: &[PciAddress]) -> Result<HostSeen, mdev::Error> {
        self.inner.look_at_all(at_work)
    }

    fn published(&self) -> Result<Vec<SliceId>, EffectError> {
        self.inner.published()
    }

    fn waited_for_others(&self, gpu: PciAddress) -> Duration {
        self.inner.waited_for_others(gpu)
    }
}
