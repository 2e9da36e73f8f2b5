use super::*;
use crate::{
    ResetOutcome,
    fake::{FakeGpu, FakeHost},
    inventory, mechanisms, uncuttable,
};
use nix::errno::Errno;

const GPU: &str = "0000:41:00.0";
const SOUND: &str = "0000:41:00.1";

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn gpu() -> PciAddress {
    address(GPU)
}

/// On its vendor's driver, with a sound function beside it.
fn machine(gpu: FakeGpu) -> (FakeHost, Host) {
    let fake = FakeHost::machine().driver("nvidia", &["10de:2684"]).gpu(gpu).build();
    let host = fake.host();
    (fake, host)
}

fn card() -> FakeGpu {
    FakeGpu::new(GPU).id("10de:2684").class(0x03_0000).driver("nvidia").companion(SOUND)
}

fn create(host: &Host) -> Result<Instance, Error> {
    Passthrough.create(host, gpu(), &profile().unwrap(), InstanceName::Whole)
}

fn read(host: &Host) -> Gpu {
    inventory::gpu(host, &vgpud_config::GpuSelection::default(), gpu()).unwrap()
}

fn driver(host: &Host, function: &str) -> Option<String> {
    device::driver(&host.pci_device(address(function))).unwrap().map(|driver| driver.0)
}

#[test]
fn the_gpu_and_its_sound_go_together_and_come_back() {
    let (fake, host) = machine(card());
    host.write_attr(&host.pci_drivers_probe(), SOUND).unwrap();
    let before = fake.snapshot();
    let offered = Passthrough.profiles(&read(&host), &[]);
    assert_eq!((offered.len(), offered[0].capacity, offered[0].available), (1, 1, 1));
    assert_eq!((offered[0].compute, offered[0].holds), (Some(ComputeShare::WHOLE), Holds::ENFORCED));
    let made = create(&host).unwrap();
    assert_eq!((made.address, made.name.to_string()), (Some(gpu()), "passthrough device".to_owned()));
    for function in [GPU, SOUND] {
        assert_eq!(driver(&host, function).as_deref(), Some("vfio-pci"));
    }
    assert_eq!(create(&host).unwrap(), made, "idempotent");
    assert_eq!(instance::list(&host, gpu()).unwrap(), std::slice::from_ref(&made));
    assert_eq!(made.reset(&host).unwrap(), ResetOutcome::Done { method: "flr".to_owned() });
    assert_eq!(Passthrough.profiles(&read(&host), &[])[0].available, 0, "somebody has it");
    assert!(matches!(Passthrough.retire(&host, gpu()), Err(Error::InUse { .. })));
    Passthrough.destroy(&host, gpu(), InstanceName::Whole).unwrap();
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
    Passthrough.retire(&host, gpu()).unwrap();
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn what_fails_in_the_middle_is_taken_back() {
    let (fake, host) = machine(card());
    host.write_attr(&host.pci_drivers_probe(), SOUND).unwrap();
    let before = fake.snapshot();
    // The GPU is moved first, then its sound.
    fake.fail("vfio-pci/bind", 1, Errno::EBUSY);
    create(&host).unwrap_err();
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn it_is_never_chosen_unasked() {
    let (_fake, host) = machine(card());
    assert!(Passthrough.applies(&read(&host)));
    assert!(mechanisms(&read(&host)).is_empty());
    assert!(!uncuttable(&read(&host)).unwrap().contains("whole"));
}

#[test]
fn what_would_end_badly_is_refused() {
    let why = |gpu: FakeGpu| {
        let (_fake, host) = machine(gpu);
        Passthrough.unusable(&read(&host)).unwrap_or_default()
    };
    for (id, wanted) in
        [("10de:1eb8", "powered off"), ("10de:2342", "powered off"), ("1002:74a1", "restarted")]
    {
        assert!(why(card().id(id)).contains(wanted));
    }
    assert_eq!(why(card()), "");
    let (_fake, host) = machine(FakeGpu::new(GPU).id("1234:51a0").sriov(8));
    host.write_attr(&host.pci_device(gpu()).join("sriov_numvfs"), "8").unwrap();
    assert!(Passthrough.unusable(&read(&host)).unwrap().contains("it has virtual functions"));
}

#[test]
fn a_gpu_whose_sound_is_not_moved_yet_is_no_instance() {
    let (_fake, host) = machine(card());
    create(&host).unwrap();
    binding::from_vfio(&host, address(SOUND)).unwrap();
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
    create(&host).unwrap();
    assert_eq!(driver(&host, SOUND).as_deref(), Some("vfio-pci"));
}
