use super::*;
use vgpud_config::PciId;
use vgpud_mdev::{AmdPartitioning, DriverName, MdevType, SpatialMode, SriovCapability};

fn address(bus: u8) -> PciAddress {
    format!("0000:{bus:02x}:00.0").parse().unwrap()
}

fn taken(count: usize, profile: &str) -> Vec<Taken> {
    vec![Taken { profile: profile.parse().unwrap(), exists: true }; count]
}

fn gpu(bus: u8) -> Gpu {
    Gpu::new(address(bus), PciId { vendor: 0x1234, device: 0x51a0 }, 0x03_0200)
}

/// A parent of mediated devices of 16 and 32 MiB with room for this many of each.
fn mdev(bus: u8, small: u32, medium: u32, slices: usize) -> GpuView {
    let types = [("small", 16_u64, small), ("medium", 32, medium)].map(|(name, mib, available)| MdevType {
        id: name.parse().unwrap(),
        name: None,
        description: None,
        available,
        existing: 0,
        memory: Some(Memory::from_bytes(mib << 20)),
    });
    let gpu = Gpu { mdev_types: types.to_vec(), ..gpu(bus) };
    GpuView::new(gpu, Ok(MechanismKind::Mdev), taken(slices, "small"), Emptying::BySlices)
}

/// A GPU of 8 VFs with 16 MiB each, some of which are slices.
fn sriov(bus: u8, slices: u16) -> GpuView {
    let divided = slices > 0;
    let capability = SriovCapability {
        total: 8,
        enabled: if divided { 8 } else { 0 },
        bound: slices,
        vf_aperture: Some(Memory::from_bytes(16 << 20)),
    };
    let driver = Some(DriverName("simgpu".to_owned()));
    let gpu = Gpu { driver, sriov: Some(capability), ..gpu(bus) };
    GpuView::new(gpu, Ok(MechanismKind::Sriov), taken(slices.into(), "vf-8"), Emptying::BySlices)
}

fn size_of(mib: u64, count: u32) -> Request {
    let memory = Some(Memory::from_bytes(mib << 20));
    Request { want: Want::Size { memory, compute: None }, gpu: None, count }
}

fn share_of(mib: Option<u64>, compute: &str, enforced: bool) -> Request {
    let memory = mib.map(|mib| Memory::from_bytes(mib << 20));
    let compute = Some(ComputeWant { request: compute.parse().unwrap(), enforced });
    Request { want: Want::Size { memory, compute }, gpu: None, count: 1 }
}

/// A GPU of 4 VFs on AMD's driver, with dies of their own or sharing some.
fn gim(bus: u8, spatial: SpatialMode) -> GpuView {
    let capability =
        SriovCapability { total: 8, enabled: 4, bound: 0, vf_aperture: Some(Memory::from_bytes(32 << 20)) };
    let partitioning = Some(AmdPartitioning { spatial: Some(spatial), ..AmdPartitioning::default() });
    let driver = Some(DriverName("gim".to_owned()));
    let gpu = Gpu { driver, sriov: Some(capability), partitioning, ..gpu(bus) };
    GpuView::new(gpu, Ok(MechanismKind::AmdGim), Vec::new(), Emptying::Never)
}

fn shortage(request: &Request, gpus: &[GpuView]) -> String {
    place(request, gpus).unwrap_err().to_string()
}

#[test]
fn the_smallest_profile_that_satisfies_wins() {
    let placed = place(&size_of(10, 1), &[sriov(1, 0)]).unwrap();
    assert_eq!(placed.choices[0].profile.name.to_string(), "vf-8");
    let placed = place(&size_of(17, 1), &[sriov(1, 0), mdev(2, 8, 4, 0)]).unwrap();
    assert_eq!(placed.choices[0].profile.name.to_string(), "medium");
}

#[test]
fn a_gpu_that_is_cut_already_comes_before_an_empty_one() {
    let placed = place(&size_of(10, 2), &[sriov(1, 0), sriov(2, 3)]).unwrap();
    assert!(placed.choices.iter().all(|choice| choice.gpu == address(2)));
    let verdicts: Vec<_> = placed.considered.iter().map(|c| (c.verdict, c.reason.as_str())).collect();
    assert_eq!(verdicts[0], (Verdict::NotChosen, "another GPU fits better"));
    assert_eq!(verdicts[1], (Verdict::Chosen, "2 of vf-8, the smallest that satisfies"));
}

#[test]
fn among_equals_the_first_address_and_one_gpu_until_it_is_full() {
    let placed = place(&size_of(10, 9), &[sriov(2, 0), sriov(1, 0)]).unwrap();
    let on = |bus| placed.choices.iter().filter(|choice| choice.gpu == address(bus)).count();
    assert_eq!((on(1), on(2)), (8, 1));
}

#[test]
fn too_large_is_never_and_names_the_largest() {
    let text = shortage(&size_of(20 << 10, 1), &[mdev(0xf0, 8, 4, 0)]);
    assert_eq!(text, "Asked 20GiB; the largest on 0000:f0:00.0 is 32MiB (medium)");
}

#[test]
fn a_profile_without_a_share_of_compute_is_named_as_such() {
    let text = shortage(&share_of(Some(16), "25%", false), &[mdev(0xf0, 8, 4, 0)]);
    assert_eq!(
        text,
        "Asked 16MiB and 25% of compute; the largest on 0000:f0:00.0 is 32MiB with no share of compute (medium)"
    );
}

#[test]
fn a_cap_gets_its_share_and_a_guarantee_at_least_that() {
    let chosen = |compute| {
        let placed = place(&share_of(Some(16), compute, false), &[sriov(1, 0)]).unwrap();
        placed.choices[0].profile.name.to_string()
    };
    assert_eq!(
        (chosen("25%").as_str(), chosen("13%").as_str(), chosen("25%+").as_str()),
        ("vf-4", "vf-8", "vf-4")
    );
    assert_eq!(chosen("30%+"), "vf-2");
    let refusal = place(&share_of(Some(16), "30%", false), &[sriov(1, 0), mdev(2, 8, 4, 0)]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Asked 16MiB and 30% of compute; no profile has just that share: 0000:01:00.0 has 100% (vf-1), 50% (vf-2); \
         30%+ takes one with at least that much"
    );
    let reasons: Vec<_> = refusal.considered.iter().map(|gpu| gpu.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "no profile has just that share; there are 100% (vf-1), 50% (vf-2)",
            "no profile satisfies 16MiB and 30% of compute; the largest is 32MiB with no share of compute (medium)",
        ]
    );
}

#[test]
fn where_enforcement_is_insisted_on_no_other_gpu_will_do() {
    let gpus = [gim(1, SpatialMode::Spx), gim(2, SpatialMode::Cpx), sriov(3, 0)];
    for compute in ["25%", "25%+"] {
        let placed = place(&share_of(None, compute, true), &gpus).unwrap();
        assert_eq!(placed.choices[0].gpu, address(2));
        let reasons: Vec<_> = placed.considered.iter().map(|gpu| gpu.reason.as_str()).collect();
        let bound = if compute == "25%" { "cap" } else { "floor" };
        assert_eq!(
            [reasons[0], reasons[2]],
            [
                format!("it does not enforce the share: it has vf-4, whose {bound} is best effort"),
                format!("it does not enforce the share: it has vf-4, whose {bound} is not available")
            ]
        );
    }
    let refusal = place(&share_of(None, "25%+", true), &[gim(1, SpatialMode::Spx), sriov(3, 0)]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Asked 25%+ of compute, enforced; no GPU here enforces that: 0000:01:00.0 has vf-4, whose floor is best effort, \
         0000:03:00.0 has vf-4, whose floor is not available; without `enforced` that would do"
    );
    let share = place(&share_of(None, "30%", true), &[gim(2, SpatialMode::Cpx)]).unwrap_err();
    assert!(matches!(share.shortage, Shortage::TooLarge { .. }), "{share}");
    let full = place(&Request { count: 5, ..share_of(None, "25%", true) }, &gpus).unwrap_err();
    assert!(matches!(full.shortage, Shortage::TooMany { capacity: 4, .. }), "{full}");
}

#[test]
fn never_and_not_now_are_told_apart() {
    let refused = |count, gpus: &[GpuView]| place(&size_of(10, count), gpus).unwrap_err().shortage;
    assert!(matches!(refused(9, &[sriov(1, 0)]), Shortage::TooMany { capacity: 8, .. }));
    assert!(matches!(refused(3, &[sriov(1, 6)]), Shortage::NotNow { available: 2, .. }));
}

#[test]
fn a_request_says_which_name_is_unknown() {
    let want = Want::Profile("vf-3".parse().unwrap());
    let text = shortage(&Request { want, gpu: None, count: 1 }, &[sriov(1, 0)]);
    assert_eq!(text, "No GPU offers the profile vf-3; there are vf-1, vf-2, vf-4, vf-8");
    let nowhere = Request { gpu: Some(address(9)), ..size_of(1, 1) };
    assert!(shortage(&nowhere, &[sriov(1, 0)]).contains("There is no GPU 0000:09:00.0"));
}

#[test]
fn an_unusable_gpu_says_why() {
    let why = "GPU 0000:01:00.0 cannot be cut: its driver is missing";
    let broken = GpuView::new(gpu(1), Err(why.into()), vec![], Emptying::BySlices);
    let asked = Request { gpu: Some(address(1)), ..size_of(1, 1) };
    assert_eq!(
        shortage(&asked, std::slice::from_ref(&broken)),
        "GPU 0000:01:00.0 cannot be cut: its driver is missing"
    );
    let placed = place(&size_of(1, 1), &[broken, sriov(2, 0)]).unwrap();
    assert_eq!(placed.considered[0].reason, why);
}

#[test]
fn a_gpu_that_is_cut_otherwise_is_not_now_and_says_so() {
    let cut = sriov(1, 2);
    let want = Want::Profile("vf-4".parse().unwrap());
    let refusal = place(&Request { want, gpu: None, count: 1 }, &[cut]).unwrap_err();
    assert!(matches!(refusal.shortage, Shortage::NotNow { available: 0, .. }), "{refusal:?}");
    let reason = &refusal.considered[0].reason;
    assert_eq!(reason, "it is cut into vf-8 now, and can be cut otherwise when it is empty");
}

#[test]
fn a_full_mdev_parent_has_no_room_now() {
    let refusal = place(&size_of(16, 1), &[mdev(1, 0, 0, 4)]).unwrap_err();
    assert!(matches!(refusal.shortage, Shortage::NotNow { available: 0, .. }), "{refusal:?}");
}

/// VFs that somebody else has stay theirs, however many slices one request brings.
#[test]
fn foreign_vfs_are_counted_once_for_all_slices_of_a_request() {
    let mut gpu = sriov(1, 2).gpu;
    let view = |gpu: &Gpu| GpuView::new(gpu.clone(), Ok(MechanismKind::Sriov), vec![], Emptying::Never);
    let ask = |count| place(&size_of(10, count), &[view(&gpu)]);
    assert_eq!(ask(6).unwrap().choices.len(), 6);
    assert!(matches!(ask(7).unwrap_err().shortage, Shortage::NotNow { available: 6, .. }));
    gpu.sriov.as_mut().unwrap().bound = 8;
    assert!(place(&size_of(10, 1), &[view(&gpu)]).is_err());
}
