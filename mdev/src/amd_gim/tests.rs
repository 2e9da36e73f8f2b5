use super::*;
use crate::{
    AcceleratorMode, Memory, MemoryMode, VfIndex,
    fake::{FakeGpu, FakeHost},
    inventory, mechanisms,
    sriov::Sriov,
};
use std::fs;

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
        (partitioning.accelerator_profile, partitioning.memory, partitioning.accelerator),
        (Some(1), Some(MemoryMode::Nps4), Some(AcceleratorMode::Cpx))
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

fn modes(accelerator: Option<AcceleratorMode>, memory: Option<MemoryMode>) -> PartitionModes {
    PartitionModes { accelerator, memory }
}

fn modes_of(host: &Host, gpu: &str) -> String {
    partitioning::read(host, gpu.parse().unwrap()).unwrap().modes().to_string()
}

const PEER: &str = "0000:42:00.0";

fn hive(vfs: u16) -> (FakeHost, Host) {
    let gpu = |address: &str| FakeGpu::new(address).gim(8, vfs);
    let other = FakeGpu::new("0000:43:00.0").sriov(8);
    let fake = FakeHost::machine().gpu(gpu(GPU)).gpu(gpu(PEER)).gpu(other).build();
    let host = fake.host();
    (fake, host)
}

#[test]
fn modes_are_set_for_the_hive_and_what_is_so_is_not_written() {
    let (fake, host) = hive(1);
    assert_eq!(modes_of(&host, GPU), "NPS4 and CPX");
    let spx = modes(Some(AcceleratorMode::Spx), Some(MemoryMode::Nps1));
    AmdGim.partition(&host, gpu(), spx).unwrap();
    assert_eq!(
        (modes_of(&host, GPU).as_str(), modes_of(&host, PEER).as_str()),
        ("NPS1 and SPX", "NPS1 and SPX")
    );
    let cpx = modes(Some(AcceleratorMode::Cpx), None);
    AmdGim.partition(&host, gpu(), cpx).unwrap();
    assert_eq!(modes_of(&host, PEER), "NPS1 and CPX");
    let written = fake.writes().len();
    AmdGim.partition(&host, PEER.parse().unwrap(), cpx).unwrap();
    assert_eq!(fake.writes().len(), written, "it has come with the other one");
    let gpus = [read(&host), inventory::gpu(&host, &Default::default(), PEER.parse().unwrap()).unwrap()];
    let other = inventory::gpu(&host, &Default::default(), "0000:43:00.0".parse().unwrap()).unwrap();
    let hive = AmdGim.partitioned_with(&[&other, &gpus[1], &gpus[0]], gpu());
    assert_eq!(hive, [gpu(), PEER.parse().unwrap()]);

    // What cannot be read just now is no reason to change a GPU unasked.
    for name in fs::read_dir(host.pci_device(gpu())).unwrap().map(|entry| entry.unwrap().path()) {
        let named = name.file_name().unwrap().to_string_lossy().into_owned();
        if named.contains("partition") {
            fs::remove_file(&name).unwrap();
            fs::create_dir(&name).unwrap();
        }
    }
    let unreadable = read(&host);
    assert_eq!(unreadable.partitioning, Some(AmdPartitioning::default()));
    let hive = AmdGim.partitioned_with(&[&other, &gpus[1], &unreadable], PEER.parse().unwrap());
    assert_eq!(hive, [gpu(), PEER.parse().unwrap()]);
    let refused = AmdGim.with_modes(&unreadable, cpx).unwrap_err();
    assert!(refused.contains("does not show in accelerator_partition_profile_config"), "{refused}");
    assert_eq!(Sriov.partitioned_with(&[&other, &gpus[0]], other.address), [other.address]);
}

#[test]
fn a_write_that_succeeds_and_changes_nothing_is_told_with_what_is_there() {
    let asked = modes(Some(AcceleratorMode::Qpx), Some(MemoryMode::Nps1));
    let refusals = |fake: &FakeHost, host: &Host, shown: &str| {
        let told = AmdGim.partition(host, gpu(), asked).unwrap_err().to_string();
        let wanted =
            format!("GPU {GPU} is {shown}, although the kernel took the request for NPS1 and QPX; gim says");
        assert!(told.starts_with(&wanted), "{told}");
        assert_eq!(modes_of(host, GPU), shown);
        fake.writes().len()
    };
    // The memory mode is not taken: nothing more is written.
    let (fake, host) = hive(4);
    fake.ignore("memory_partition_mode", 0);
    let before = fake.writes().len();
    assert_eq!(refusals(&fake, &host, "NPS4 and CPX"), before + 1);
    // The compute mode alone.
    let (fake, host) = hive(4);
    AmdGim.partition(&host, gpu(), modes(Some(AcceleratorMode::Cpx), Some(MemoryMode::Nps1))).unwrap();
    fake.ignore("accelerator_partition_profile", 0);
    refusals(&fake, &host, "NPS1 and CPX");
    // As the driver refuses while a VF is in use, of whichever GPU of the hive.
    let (fake, host) = hive(4);
    let vf = crate::virtual_function::VirtualFunction::all(&host, PEER.parse().unwrap()).unwrap()[2].address;
    fake.hold(&vf.to_string());
    refusals(&fake, &host, "NPS4 and CPX");
    // An errno is one.
    let (fake, host) = hive(4);
    fake.fail("memory_partition_mode", 0, nix::errno::Errno::EIO);
    let told = AmdGim.partition(&host, gpu(), asked).unwrap_err();
    assert!(matches!(told, Error::Write { .. }), "{told}");
}

#[test]
fn what_goes_together_is_what_the_driver_lists_with_a_word_on_other_numbers_of_vfs() {
    let (_fake, host) = hive(8);
    let gpu = read(&host);
    let with = |accelerator, memory| AmdGim.with_modes(&gpu, modes(accelerator, memory));
    assert_eq!(with(Some(AcceleratorMode::Cpx), Some(MemoryMode::Nps4)).unwrap(), gpu, "it is so");
    let split = with(None, Some(MemoryMode::Nps1)).unwrap().partitioning.unwrap();
    assert_eq!(split.modes().to_string(), "NPS1 and CPX");
    assert_eq!(
        with(Some(AcceleratorMode::Spx), Some(MemoryMode::Nps1)).unwrap_err(),
        "GPU 0000:41:00.0 cannot be set to NPS1 and SPX with its 8 VFs: its driver gim lists NPS1 and CPX, NPS4 and CPX; \
         such a card can be it with another number of VFs (1), which gim takes when it is loaded"
    );
    let told = with(Some(AcceleratorMode::Spx), None).unwrap_err();
    assert!(told.contains("cannot be set to SPX and stay NPS4 with its 8 VFs"), "{told}");
    // The driver would take it for NPS4.
    let told = with(None, Some(MemoryMode::Nps8)).unwrap_err();
    assert!(told.ends_with("its driver gim lists NPS1 and CPX, NPS4 and CPX"), "{told}");
    std::fs::remove_file(host.pci_device(gpu.address).join("accelerator_partition_profile_config")).unwrap();
    let told = AmdGim.with_modes(&read(&host), modes(None, Some(MemoryMode::Nps1))).unwrap_err();
    assert!(told.contains("does not show in accelerator_partition_profile_config what it can be"), "{told}");
    let told =
        AmdGim.with_modes(&Gpu { partitioning: None, ..gpu.clone() }, modes(None, Some(MemoryMode::Nps1)));
    assert!(told.unwrap_err().contains("shows no partitions of it"));
    let told = Sriov.with_modes(&gpu, modes(None, Some(MemoryMode::Nps1))).unwrap_err();
    assert!(told.contains("it is cut by sriov, which has no such modes"), "{told}");
}
