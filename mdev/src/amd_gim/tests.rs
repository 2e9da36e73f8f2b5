use super::*;
use crate::{
    Memory, VfIndex,
    fake::{FakeGpu, FakeHost},
    inventory, mechanisms,
    sriov::Sriov,
};

const GPU: &str = "0000:41:00.0";

fn gpu() -> PciAddress {
    GPU.parse().unwrap()
}

fn vf(index: u16) -> InstanceName {
    InstanceName::Vf(VfIndex(index))
}

fn machine() -> (FakeHost, Host) {
    let fake = FakeHost::machine().gpu(FakeGpu::new(GPU).gim(8, 4)).driver("amdgpu", &["1002:74b5"]).build();
    let host = fake.host();
    (fake, host)
}

fn read(host: &Host) -> Gpu {
    inventory::gpu(host, &vgpud_config::GpuSelection::default(), gpu()).unwrap()
}

fn create(host: &Host, profile: &str, index: u16) -> Result<Instance, Error> {
    AmdGim.create(host, gpu(), &profile.parse().unwrap(), vf(index))
}

#[test]
fn only_the_present_number_of_vfs_is_offered() {
    let (_fake, host) = machine();
    let gpu = read(&host);
    let kinds: Vec<_> = mechanisms(&gpu).into_iter().map(Mechanism::kind).collect();
    assert_eq!(kinds, [MechanismKind::AmdGim]);
    assert_eq!(
        Sriov.unusable(&gpu).as_deref(),
        Some("its driver gim makes VFs when it is loaded, and not by sriov_numvfs")
    );
    let profiles = AmdGim.profiles(&gpu, &[]);
    let [profile] = &profiles[..] else { panic!("{profiles:?}") };
    assert_eq!((profile.name.as_ref(), profile.capacity), ("vf-4", 4));
    assert_eq!(profile.memory, Some(Memory::from_bytes(16 << 20)));
    assert!(AmdGim.is_divided(&gpu) && !AmdGim.leaves_traces());
    let partitioning = gpu.partitioning.unwrap();
    assert_eq!(
        (partitioning.accelerator_profile, partitioning.memory, partitioning.spatial),
        (Some(1), Some(MemoryMode(4)), Some(SpatialMode::Cpx))
    );
}

#[test]
fn a_vf_with_dies_of_its_own_has_its_share_for_itself() {
    let (_fake, host) = machine();
    let holds = |mode: &str| {
        std::fs::write(host.pci_device(gpu()).join("spatial_partition_mode"), mode).unwrap();
        AmdGim.profiles(&read(&host), &[])[0].holds
    };
    assert_eq!((holds("CPX"), holds("QPX")), (Holds::ENFORCED, Holds::ENFORCED));
    for shared in ["DPX", "SPX", "", "a new mode"] {
        assert_eq!(holds(shared), Holds::BEST_EFFORT, "{shared:?}");
    }
}

#[test]
fn a_vf_is_taken_from_its_driver_and_given_back_and_the_count_is_never_touched() {
    let (fake, host) = machine();
    let made = create(&host, "vf-4", 1).unwrap();
    assert_eq!((made.name, made.driver.as_ref().unwrap().0.as_str()), (vf(1), "vfio-pci"));
    assert_eq!(create(&host, "vf-4", 1).unwrap(), made, "asked again");
    AmdGim.destroy(&host, gpu(), vf(1)).unwrap();
    AmdGim.destroy(&host, gpu(), vf(1)).unwrap();
    AmdGim.retire(&host, gpu()).unwrap();
    assert_eq!(crate::instance::list(&host, gpu()).unwrap(), []);
    assert_eq!(read(&host).sriov.unwrap().enabled, 4);
    let written = |(path, _): &(String, String)| path.contains("sriov_") || path.contains("partition");
    assert!(!fake.writes().iter().any(written), "{:?}", fake.writes());
}

#[test]
fn another_number_is_refused_with_the_way_to_it() {
    let (fake, host) = machine();
    let before = fake.snapshot();
    assert_eq!(
        create(&host, "vf-8", 0).unwrap_err().to_string(),
        "GPU 0000:41:00.0 has the 4 VFs that its driver made when it was loaded, and 8 are needed: \
         `vgpuctl profiles 0000:41:00.0` lists what it offers, and another number takes loading gim again with \
         another vf_num, when no VM uses a GPU of this host"
    );
    assert_eq!(fake.snapshot(), before);
}
