//! vGPUs of NVIDIA's over the daemon's life: made anew between owners, and known by name where the
//! driver names them no longer.

use super::bench::{Bench, LIMIT, MDEV, SECOND, SRIOV, create};
use crate::api;
use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};
use vgpud_config::{PciAddress, Reuse};
use vgpud_mdev::{
    self as mdev, Host, InstanceName, MechanismKind, VfIndex,
    attribute::Kernel,
    fake::{FakeGpu, FakeHost, FakeVgpus, Machine},
    mechanism,
    nvidia::{Said, Turn},
};

const VF0: &str = "sys/bus/pci/devices/0000:41:00.0/virtfn0/nvidia/current_vgpu_type";

fn machine() -> Machine {
    FakeHost::machine().gpu(FakeGpu::new(SRIOV).nvidia(8, &FakeVgpus::l40s()))
}

async fn bench(reuse: Reuse) -> Bench {
    let mut bench = Bench::new(&machine());
    bench.settings.scrub.reuse = reuse;
    bench.start(None).await;
    bench
}

impl Bench {
    /// The numbers that were written to VFs, in order.
    fn types_written(&self) -> Vec<String> {
        let writes = self.fake.writes().into_iter();
        writes.filter(|(path, _)| path.ends_with("current_vgpu_type")).map(|(_, value)| value).collect()
    }

    fn vf_driver(&self) -> Option<String> {
        vgpud_mdev::attribute::link(&self.host.path("sys/bus/pci/devices/0000:41:00.4/driver")).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_owner_gets_a_vgpu_that_was_made_for_them() {
    let bench = bench(Reuse::Reset).await;
    let before = bench.files();
    bench.create("L40S-8Q", SRIOV, 1, Some("pod-a")).await.unwrap();
    assert_eq!(bench.types_written(), ["1152"]);
    bench.release("s1").await.unwrap();
    bench.at_rest().await;
    assert_eq!(bench.phases().await["s1"], api::Phase::Ready);
    assert_eq!(bench.types_written(), ["1152", "0", "1152"]);
    assert_eq!(bench.vf_driver().as_deref(), Some("nvidia"));
    bench.check().await;
    bench.destroy("s1").await.unwrap();
    bench.at_rest().await;
    let after = || bench.files();
    for _ in 0..500 {
        if after() == before {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(after(), before, "the VFs are off again");
}

/// No BAR shows a vGPU's memory: what opens it to look would only disturb it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_read_back_is_refused_before_anything_is_done() {
    for reuse in [Reuse::Verified, Reuse::Vendor, Reuse::SameOwner] {
        let bench = bench(reuse).await;
        let before = bench.files();
        let refused = bench.create("L40S-8Q", SRIOV, 1, None).await.unwrap_err();
        assert_eq!(refused.reason, "UNSEEN_MEMORY");
        assert!(refused.text.contains("set reuse = \"reset\" for 0000:41:00.0"), "{refused:?}");
        bench.at_rest().await;
        assert_eq!(bench.types_written(), [""; 0]);
        assert_eq!(bench.files(), before);
    }
}

/// With its settings for one GPU alone, and changed when it has an owner: it is not opened then either.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_settings_opens_no_vgpu() {
    let mut bench = Bench::new(&machine());
    let trusting = vgpud_config::GpuSettings { reuse: Some(Reuse::Reset), ..Default::default() };
    let gpu: PciAddress = SRIOV.parse().unwrap();
    bench.settings.gpu.insert(gpu, trusting);
    bench.start(None).await;
    bench.create("L40S-8Q", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.crash().await;
    bench.settings.gpu.remove(&gpu);
    bench.start(None).await;
    let refused = bench.release("s1").await.unwrap_err();
    assert_eq!(refused.reason, "UNSEEN_MEMORY");
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    bench.destroy("s1").await.unwrap();
    bench.check().await;
}

/// The driver names no type of a full card any more; after a crash its slices are known all the same,
/// and what is not theirs is found out as soon as it can be named.
#[tokio::test(flavor = "multi_thread")]
async fn the_slices_of_a_full_card_are_known_after_a_crash() {
    let mut bench = bench(Reuse::Reset).await;
    bench.create("L40S-24Q", SRIOV, 1, None).await.unwrap();
    bench.create("L40S-24A", SRIOV, 1, None).await.unwrap();
    let refused = bench.create("L40S-24Q", SRIOV, 1, None).await.unwrap_err();
    assert_eq!(refused.reason, "NO_CAPACITY", "{refused:?}");
    let refused = bench.create("L40S-8Q", SRIOV, 1, None).await.unwrap_err();
    assert_eq!(refused.reason, "NO_CAPACITY", "it could be had on an empty card: {refused:?}");
    bench.crash().await;
    bench.start(None).await;
    assert_eq!(bench.phases().await.values().collect::<Vec<_>>(), [&api::Phase::Ready; 2]);
    bench.check().await;
    // Somebody makes one of another type of it, and the driver can name it.
    bench.destroy("s2").await.unwrap();
    bench.crash().await;
    for value in ["0", "1165"] {
        bench.host.write_attr(&bench.host.path(VF0), value).unwrap();
    }
    bench.start(None).await;
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
}

/// Types and VFs are gone after a restart of the host, and made again.
#[tokio::test(flavor = "multi_thread")]
async fn vgpus_are_made_again_after_a_restart_of_the_host() {
    let mut bench = bench(Reuse::Reset).await;
    bench.boot("one");
    bench.crash().await;
    bench.start(None).await;
    bench.create("L40S-8Q", SRIOV, 2, None).await.unwrap();
    bench.crash().await;
    // What a restart leaves: neither types nor VFs.
    let (cutter, gpu) = (mechanism(MechanismKind::NvidiaVfio), SRIOV.parse().unwrap());
    for index in [0, 1] {
        cutter.destroy(&bench.host, gpu, InstanceName::Vf(VfIndex(index))).unwrap();
    }
    cutter.retire(&bench.host, gpu).unwrap();
    let before = bench.types_written().len();
    bench.boot("two");
    bench.start(None).await;
    bench.at_rest().await;
    assert_eq!(bench.types_written()[before..], ["1152", "1152"]);
    assert_eq!(bench.phases().await.values().collect::<Vec<_>>(), [&api::Phase::Ready; 2]);
    bench.check().await;
}

/// Mediated devices, of a card and of the VFs of one: the next owner gets another device, also where the driver
/// removed the last one's with its VM, and VFs go with the last of them.
#[tokio::test(flavor = "multi_thread")]
async fn each_owner_gets_a_mediated_vgpu_that_was_made_for_them() {
    let vgpus = FakeVgpus::l40s().mediated();
    let machine = FakeHost::machine()
        .gpu(FakeGpu::new(SRIOV).nvidia(8, &vgpus))
        .gpu(FakeGpu::new(MDEV).nvidia_mdev(&FakeVgpus::t4()));
    let mut bench = Bench::new(&machine);
    bench.settings.scrub.reuse = Reuse::Reset;
    let by = Some(MechanismKind::NvidiaMdev);
    let settings = vgpud_config::GpuSettings { mechanism: by, ..Default::default() };
    bench.settings.gpu.insert(SRIOV.parse().unwrap(), settings);
    bench.start(None).await;
    let before = bench.files();
    let uuid = |bench: &Bench| {
        let names = vgpud_mdev::attribute::names(&bench.host.path("/sys/bus/mdev/devices")).unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        names[0].clone()
    };
    for (slice, profile, gpu) in [("s1", "T4-8Q", MDEV), ("s2", "L40S-8Q", SRIOV)] {
        bench.create(profile, gpu, 1, Some("pod-a")).await.unwrap();
        let first = uuid(&bench);
        bench.release(slice).await.unwrap();
        bench.at_rest().await;
        assert_eq!(bench.phases().await[slice], api::Phase::Ready);
        let second = uuid(&bench);
        assert_ne!(second, first);
        bench.lease_to("pod-b", slice, None).await.unwrap();
        bench.fake.remove_mdev(&second);
        // What vgpud reads at its start and after each event of the kernel: the VM has ended, and with it the
        // lease, before another device gets the number of its node.
        bench.crash().await;
        bench.start(None).await;
        bench.at_rest().await;
        assert_eq!(bench.phases().await[slice], api::Phase::Ready);
        assert_ne!(uuid(&bench), second);
        bench.check().await;
        bench.destroy(slice).await.unwrap();
        bench.at_rest().await;
    }
    for _ in 0..500 {
        if bench.files() == before {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(bench.files(), before, "the VFs are off again");
}

/// Nobody says what NVIDIA's driver makes of another program that opens a vGPU.
#[tokio::test(flavor = "multi_thread")]
async fn a_vgpu_is_verified_by_its_files_alone() {
    let bench = bench(Reuse::Reset).await;
    bench.create("L40S-8Q", SRIOV, 1, None).await.unwrap();
    let verify = |level: &str| api::VerifySliceRequest { id: "s1".to_owned(), level: level.to_owned() };
    for level in ["", "open", "full"] {
        let refused = bench.client().verify_slice(verify(level)).await.unwrap_err();
        assert!(refused.message().contains("`--level sysfs`"), "{}", refused.message());
    }
    let answer = bench.client().verify_slice(verify("sysfs")).await.unwrap().into_inner();
    assert!(!answer.checks.is_empty());
    assert_eq!(bench.phases().await["s1"], api::Phase::Ready);
}

/// After a restart of the host somebody made the same vGPU on the VF of a slice, and used it.
#[tokio::test(flavor = "multi_thread")]
async fn a_vgpu_that_is_there_already_is_not_taken_for_a_new_one() {
    let mut bench = bench(Reuse::Reset).await;
    bench.boot("one");
    bench.crash().await;
    bench.start(None).await;
    bench.create("L40S-8Q", SRIOV, 1, None).await.unwrap();
    bench.crash().await;
    let before = bench.types_written().len();
    bench.boot("two");
    bench.start(None).await;
    bench.at_rest().await;
    assert_eq!(bench.types_written()[before..], ["0", "1152"]);
    assert_eq!(bench.phases().await["s1"], api::Phase::Ready);
}

/// A `sriov-manage` that hangs on one GPU until it is let go.
#[derive(Debug)]
struct Hanging {
    kernel: Arc<dyn Kernel>,
    on: PciAddress,
    hang: Mutex<Hang>,
    moved: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hang {
    Coming,
    Now,
    Over,
}

impl Hanging {
    fn until(&self, wanted: Hang) {
        let hang = self.hang.lock().unwrap();
        let (hang, _) = self.moved.wait_timeout_while(hang, LIMIT, |hang| *hang != wanted).unwrap();
        assert_eq!(*hang, wanted);
    }

    fn set(&self, hang: Hang) {
        *self.hang.lock().unwrap() = hang;
        self.moved.notify_all();
    }
}

impl Kernel for Hanging {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        self.kernel.write(path, value)
    }

    fn pause(&self, time: Duration) {
        self.kernel.pause(time);
    }

    fn turn_vfs(&self, host: &Host, gpu: PciAddress, turn: Turn) -> Result<Said, mdev::Error> {
        if gpu == self.on {
            self.set(Hang::Now);
            self.until(Hang::Over);
        }
        self.kernel.turn_vfs(host, gpu, turn)
    }
}

/// One runs at a time on a host: who waits for that of another GPU is as well as before, however long it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_waits_for_anothers_sriov_manage_is_not_held_to_its_deadline() {
    let card = |gpu: &str| FakeGpu::new(gpu).nvidia(8, &FakeVgpus::l40s());
    let mut bench = Bench::new(&FakeHost::machine().gpu(card(SRIOV)).gpu(card(SECOND)));
    let hanging = Arc::new(Hanging {
        kernel: bench.fake.kernel(),
        on: SRIOV.parse().unwrap(),
        hang: Mutex::new(Hang::Coming),
        moved: Condvar::new(),
    });
    bench.host = bench.fake.host().with_kernel(Arc::clone(&hanging) as _);
    bench.settings.scrub.reuse = Reuse::Reset;
    bench.settings.timeouts.device = Duration::from_millis(600);
    bench.start(None).await;
    let first = tokio::spawn(create(bench.client(), "L40S-8Q", SRIOV, 1, None));
    let wait = Arc::clone(&hanging);
    tokio::task::spawn_blocking(move || wait.until(Hang::Now)).await.unwrap();
    let second = tokio::spawn(create(bench.client(), "L40S-8Q", SECOND, 1, None));
    // The GPU whose tool hangs is out of use for it, twice as long ago as would do for the other.
    assert_eq!(first.await.unwrap().unwrap_err().reason, "KERNEL_STUCK");
    tokio::time::sleep(bench.settings.timeouts.device * 2).await;
    assert!(!second.is_finished());
    hanging.set(Hang::Over);
    assert_eq!(second.await.unwrap().unwrap()[0].phase(), api::Phase::Ready);
    let quarantined =
        bench.client().list_quarantine(api::ListQuarantineRequest {}).await.unwrap().into_inner();
    let gpus: Vec<_> = quarantined.gpus.iter().map(|found| found.gpu.as_str()).collect();
    assert_eq!(gpus, [SRIOV]);
}
