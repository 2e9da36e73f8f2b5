use super::*;
use crate::{
    InstanceName, Memory,
    fake::{FakeGpu, FakeHost, FakeXe, Machine, XeShares},
    inventory, mechanisms, uncuttable,
};
use nix::errno::Errno;

const GPU: &str = "0000:41:00.0";
const GIB: u64 = 1 << 30;
const XE: FakeXe = FakeXe { shares: XeShares::SriovAdmin, vram: 16 * GIB, vram_shown: true };
const TILES: FakeXe = FakeXe { shares: XeShares::Tiles, vram: 16 * GIB, vram_shown: false };
const GTS: FakeXe = FakeXe { shares: XeShares::Gts, ..TILES };

fn gpu() -> PciAddress {
    GPU.parse().unwrap()
}

fn vf(index: u16) -> InstanceName {
    InstanceName::Vf(VfIndex(index))
}

fn machine(xe: FakeXe) -> (FakeHost, Host) {
    build(&FakeHost::machine().gpu(FakeGpu::new(GPU).xe(7, xe)))
}

fn build(machine: &Machine) -> (FakeHost, Host) {
    let fake = machine.build();
    let host = fake.host();
    (fake, host)
}

fn read(host: &Host) -> Gpu {
    inventory::gpu(host, &vgpud_config::GpuSelection::default(), gpu()).unwrap()
}

fn create(host: &Host, profile: &str, index: u16) -> Result<Instance, Error> {
    IntelXe.create(host, gpu(), &profile.parse().unwrap(), vf(index))
}

fn memory_of(host: &Host, profile: &str) -> Option<Memory> {
    let profiles = IntelXe.profiles(&read(host), &[]);
    profiles.into_iter().find(|offered| offered.name.as_ref() == profile).unwrap().memory
}

/// The writes to shares and to the SR-IOV files, short: `pf exec_quantum_ms=64`.
fn writes(fake: &FakeHost) -> Vec<String> {
    let short = |(path, value): (String, String)| {
        let parts: Vec<_> = path.rsplit('/').collect();
        let function = parts.iter().find(|part| part.starts_with("vf") || **part == "pf");
        function.map_or_else(|| format!("{}={value}", parts[0]), |of| format!("{of} {}={value}", parts[0]))
    };
    fake.writes().into_iter().map(short).collect()
}

#[test]
fn quotas_come_before_the_vfs_and_are_read_back_and_taken_back() {
    let (fake, host) = machine(XE);
    let before = fake.snapshot();
    let kinds: Vec<_> = mechanisms(&read(&host)).into_iter().map(Mechanism::kind).collect();
    assert_eq!(kinds, [MechanismKind::IntelXe, MechanismKind::Sriov]);
    // (16 GiB - 384 MiB) / 2, in pages of 2 MiB.
    let share = 8_388_608_000;
    assert_eq!(memory_of(&host, "vf-2"), Some(Memory::from_bytes(share)));
    let made = create(&host, "vf-2", 1).unwrap();
    assert_eq!((made.name, made.profile.as_ref()), (vf(1), "vf-2"));
    let expected = [
        format!("vf1 vram_quota={share}"),
        format!("vf2 vram_quota={share}"),
        "pf exec_quantum_ms=64".to_owned(),
        "pf preempt_timeout_us=128000".to_owned(),
        "vf1 exec_quantum_ms=50".to_owned(),
        "vf1 preempt_timeout_us=1950000".to_owned(),
        "vf2 exec_quantum_ms=50".to_owned(),
        "vf2 preempt_timeout_us=1950000".to_owned(),
        "sriov_drivers_autoprobe=0".to_owned(),
        "sriov_numvfs=2".to_owned(),
    ];
    assert_eq!(writes(&fake)[..expected.len()], expected);
    assert_eq!(memory_of(&host, "vf-2"), Some(Memory::from_bytes(share)), "as read back");
    assert_eq!(IntelXe.when_empty(&read(&host)).len(), 4);
    let count = fake.writes().len();
    assert_eq!(create(&host, "vf-2", 1).unwrap(), made, "asked again");
    assert_eq!(fake.writes().len(), count, "and nothing written");
    IntelXe.destroy(&host, gpu(), vf(1)).unwrap();
    IntelXe.retire(&host, gpu()).unwrap();
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn where_vram_is_not_known_the_driver_shares_it_and_says_how_much() {
    let (fake, host) = machine(XE);
    std::fs::remove_file(host.dri_debug().join(GPU).join("vram0_mm")).unwrap();
    assert_eq!(memory_of(&host, "vf-4"), None);
    create(&host, "vf-4", 0).unwrap();
    assert!(!writes(&fake).iter().any(|write| write.contains("vram")));
    assert_eq!(memory_of(&host, "vf-4"), Some(Memory::from_bytes(4 * GIB)));
}

#[test]
fn before_sriov_admin_times_are_set_when_the_vfs_exist_and_sharing_is_given_back() {
    for xe in [TILES, GTS] {
        let (fake, host) = machine(xe);
        let before = fake.snapshot();
        assert_eq!(memory_of(&host, "vf-4"), None);
        create(&host, "vf-4", 2).unwrap();
        let expected = [
            "sriov_drivers_autoprobe=0",
            "sriov_numvfs=4",
            "pf exec_quantum_ms=64",
            "pf preempt_timeout_us=128000",
            "vf3 exec_quantum_ms=50",
            "vf3 preempt_timeout_us=616000",
        ];
        assert_eq!(writes(&fake)[..expected.len()], expected);
        assert_eq!(memory_of(&host, "vf-4"), Some(Memory::from_bytes(4 * GIB)));
        IntelXe.destroy(&host, gpu(), vf(2)).unwrap();
        IntelXe.retire(&host, gpu()).unwrap();
        assert_eq!(writes(&fake).last().unwrap(), "restore_auto_provisioning=1");
        assert_eq!(fake.snapshot(), before);
    }
}

fn holds(host: &Host) -> Holds {
    let profiles = IntelXe.profiles(&read(host), &[]);
    let holds = profiles[0].holds;
    assert!(profiles.iter().all(|profile| profile.holds == holds));
    holds
}

const CAPPED: Holds = Holds { cap: Hold::Enforced, floor: Hold::BestEffort };

/// The file of one function, past vgpud.
fn set(host: &Host, xe: FakeXe, path: &str, value: &str) {
    let folder = match xe.shares {
        XeShares::SriovAdmin => host.pci_device(gpu()).join("sriov_admin"),
        XeShares::Tiles | XeShares::Gts => host.dri_debug().join(GPU),
    };
    std::fs::write(folder.join(path), value).unwrap();
}

#[test]
fn a_share_is_a_cap_where_idle_vfs_keep_their_turns() {
    let (_fake, host) = machine(XE);
    assert_eq!(holds(&host), Holds::BEST_EFFORT, "low: the turns of the idle are given away");
    let strict = |vf: u16| set(&host, XE, &format!("vf{vf}/profile/sched_priority"), "low [normal]");
    (1..=6).for_each(strict);
    assert_eq!(holds(&host), CAPPED);
    create(&host, "vf-7", 0).unwrap();
    assert_eq!(holds(&host), Holds::BEST_EFFORT, "the last VF is low");
    strict(7);
    assert_eq!(holds(&host), CAPPED);
    let (quantum, timeout) = ("vf3/profile/exec_quantum_ms", "vf3/profile/preempt_timeout_us");
    for (file, value) in [(quantum, "40"), (quantum, "0"), (timeout, "0"), (quantum, "no number")] {
        let before = admin_value(&host, file);
        set(&host, XE, file, value);
        assert_eq!(holds(&host), Holds::BEST_EFFORT, "{file} = {value}");
        set(&host, XE, file, &before);
    }
    assert_eq!(holds(&host), CAPPED);
    std::fs::remove_file(host.pci_device(gpu()).join("sriov_admin/vf2/profile/sched_priority")).unwrap();
    assert_eq!(holds(&host), Holds::BEST_EFFORT, "what the driver does not say");
}

#[test]
fn by_debugfs_a_share_is_a_cap_when_all_vfs_have_their_turns() {
    for (xe, policy) in [(TILES, "sriov/pf/tile0/gt0/sched_if_idle"), (GTS, "gt0/pf/sched_if_idle")] {
        let (_fake, host) = machine(xe);
        set(&host, xe, policy, "1");
        assert_eq!(holds(&host), Holds::BEST_EFFORT, "spare VFs will have no turns yet");
        create(&host, "vf-2", 0).unwrap();
        assert_eq!(holds(&host), Holds::BEST_EFFORT, "nothing bounds the spare");
        create(&host, "vf-2", 1).unwrap();
        assert_eq!(holds(&host), CAPPED);
        set(&host, xe, policy, "0");
        assert_eq!(holds(&host), Holds::BEST_EFFORT);
    }
}

#[test]
fn debugfs_is_written_only_where_nothing_else_has_the_shares() {
    for xe in [TILES, GTS] {
        let (_fake, host) = machine(xe);
        assert_eq!(debug_folders(&host), [host.dri_debug().join(GPU)]);
    }
    let (_fake, host) = machine(XE);
    assert_eq!(debug_folders(&host), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_integrated_gpu_has_times_alone() {
    let (_fake, host) = machine(FakeXe { vram: 0, vram_shown: false, ..XE });
    create(&host, "vf-7", 6).unwrap();
    assert_eq!(memory_of(&host, "vf-7"), None);
}

#[test]
fn wherever_it_ends_nothing_is_left_and_it_can_be_run_again() {
    for xe in [XE, TILES, GTS] {
        let (fake, host) = machine(xe);
        create(&host, "vf-2", 0).unwrap();
        let steps = fake.writes().len();
        assert!(steps > 7);
        for step in 0..steps {
            let (fake, host) = machine(xe);
            let before = fake.snapshot();
            fake.fail("", step, Errno::EIO);
            create(&host, "vf-2", 0).unwrap_err();
            assert_eq!(fake.snapshot(), before, "step {step}");
            create(&host, "vf-2", 0).unwrap();
        }
    }
}

#[test]
fn what_a_crash_left_is_finished_or_undone() {
    let (fake, host) = machine(XE);
    let before = fake.snapshot();
    let admin = Admin::of(&host, gpu()).unwrap();
    admin.share_vram(4).unwrap();
    admin.limit_time(Function::Vf(VfIndex(3)), 4).unwrap();
    create(&host, "vf-2", 0).unwrap();
    assert_eq!(admin_value(&host, "vf4/profile/vram_quota"), "0");
    assert_eq!(admin_value(&host, "vf4/profile/exec_quantum_ms"), "0");
    IntelXe.destroy(&host, gpu(), vf(0)).unwrap();
    IntelXe.retire(&host, gpu()).unwrap();
    admin.share_vram(4).unwrap();
    IntelXe.retire(&host, gpu()).unwrap();
    assert_eq!(fake.snapshot(), before);
}

fn admin_value(host: &Host, path: &str) -> String {
    attribute::read(&host.pci_device(gpu()).join("sriov_admin").join(path)).unwrap().unwrap()
}

#[test]
fn a_store_that_lies_is_found_out() {
    for file in ["vf2/profile/vram_quota", "pf/profile/exec_quantum_ms", "vf1/profile/preempt_timeout_us"] {
        let (fake, host) = machine(XE);
        let before = fake.snapshot();
        fake.ignore(file, 0);
        let error = create(&host, "vf-2", 0).unwrap_err().to_string();
        assert!(
            error.contains(file) && error.contains("reads 0, although the kernel took the request"),
            "{error}"
        );
        assert_eq!(fake.snapshot(), before);
    }
}

#[test]
fn what_the_driver_refuses_is_named_with_the_way_out() {
    let cases = [
        ("vf1/profile/vram_quota", Errno::ENOSPC, "the GPU has not so much memory left"),
        ("pf/profile/exec_quantum_ms", Errno::EPERM, "mechanism = \"sriov\""),
        ("vf2/profile/preempt_timeout_us", Errno::EOPNOTSUPP, "mechanism = \"sriov\""),
        ("vf2/profile/preempt_timeout_us", Errno::EIO, "firmware refuses"),
        ("sriov_numvfs", Errno::EUCLEAN, "left over from before"),
    ];
    for (file, errno, hint) in cases {
        let (fake, host) = machine(XE);
        fake.fail(file, 0, errno);
        let error = create(&host, "vf-2", 0).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(hint), "{error}");
    }
}

#[test]
fn vfs_that_get_no_memory_are_not_kept() {
    let (fake, host) = machine(FakeXe { vram: 1, ..XE });
    let before = fake.snapshot();
    let error = create(&host, "vf-2", 0).unwrap_err().to_string();
    assert!(error.contains("vf1/profile/vram_quota reads 0"), "{error}");
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn another_count_is_refused_before_anything_is_written() {
    let (fake, host) = machine(XE);
    create(&host, "vf-4", 0).unwrap();
    let before = fake.snapshot();
    let error = create(&host, "vf-2", 0).unwrap_err();
    assert!(matches!(error, Error::OtherVfCount { enabled: 4, wanted: 2, .. }), "{error}");
    assert!(matches!(IntelXe.retire(&host, gpu()), Err(Error::InUse { .. })));
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn without_shares_sriov_is_left() {
    let (_fake, host) = build(&FakeHost::machine().gpu(FakeGpu::new(GPU).driver("xe").sriov(7)));
    let gpu = read(&host);
    let why = IntelXe.unusable(&gpu).unwrap();
    assert!(why.contains("Linux 6.19") && why.contains("/sys/kernel/debug"), "{why}");
    let kinds: Vec<_> = mechanisms(&gpu).into_iter().map(Mechanism::kind).collect();
    assert_eq!(kinds, [MechanismKind::Sriov]);
    assert_eq!(uncuttable(&gpu), None);
}

#[test]
fn xes_own_vfio_driver_is_preferred() {
    let alias = "alias vfio_pci:v00008086d000056C0sv*sd*bc*sc*i* xe_vfio_pci";
    let xe = FakeHost::machine().gpu(FakeGpu::new(GPU).xe(7, XE)).alias(alias).vfio_driver("xe-vfio-pci");
    let (_fake, host) = build(&xe);
    assert_eq!(create(&host, "vf-2", 0).unwrap().driver.unwrap().0, "xe-vfio-pci");
}
