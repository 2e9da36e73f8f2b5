use super::*;
use proptest::{prelude::*, sample::Index};
use vgpud_config::PciId;
use vgpud_mdev::{AcceleratorMode, AmdPartitioning, DriverName, MdevType, SriovCapability};

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
        most: None,
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
    Request { want: Want::Size { memory, compute: None }, gpu: None, numa: None, count }
}

fn pack(request: &Request, gpus: &[GpuView]) -> Result<Placement, Refusal> {
    place(request, gpus, PlacementStrategy::Pack)
}

/// On a NUMA node.
fn on_node(node: u32, mut view: GpuView) -> GpuView {
    view.gpu.numa_node = Some(node);
    view
}

fn reasons(considered: &[Consideration]) -> Vec<&str> {
    considered.iter().map(|consideration| consideration.reason.as_str()).collect()
}

fn share_of(mib: Option<u64>, compute: &str, enforced: bool) -> Request {
    let memory = mib.map(|mib| Memory::from_bytes(mib << 20));
    let compute = Some(ComputeWant { request: compute.parse().unwrap(), enforced });
    Request { want: Want::Size { memory, compute }, gpu: None, numa: None, count: 1 }
}

/// A GPU of 4 VFs on AMD's driver, with dies of their own or sharing some.
fn gim(bus: u8, mode: AcceleratorMode) -> GpuView {
    let capability =
        SriovCapability { total: 8, enabled: 4, bound: 0, vf_aperture: Some(Memory::from_bytes(32 << 20)) };
    let partitioning = Some(AmdPartitioning { accelerator: Some(mode), ..AmdPartitioning::default() });
    let driver = Some(DriverName("gim".to_owned()));
    let gpu = Gpu { driver, sriov: Some(capability), partitioning, ..gpu(bus) };
    GpuView::new(gpu, Ok(MechanismKind::AmdGim), Vec::new(), Emptying::Never)
}

fn shortage(request: &Request, gpus: &[GpuView]) -> String {
    pack(request, gpus).unwrap_err().to_string()
}

#[test]
fn the_smallest_profile_that_satisfies_wins() {
    let placed = pack(&size_of(10, 1), &[sriov(1, 0)]).unwrap();
    assert_eq!(placed.choices[0].profile.name.to_string(), "vf-8");
    let placed = pack(&size_of(17, 1), &[sriov(1, 0), mdev(2, 8, 4, 0)]).unwrap();
    assert_eq!(placed.choices[0].profile.name.to_string(), "medium");
}

#[test]
fn a_gpu_that_is_cut_already_comes_before_an_empty_one() {
    let placed = pack(&size_of(10, 2), &[sriov(1, 0), sriov(2, 3)]).unwrap();
    assert!(placed.choices.iter().all(|choice| choice.gpu == address(2)));
    let verdicts: Vec<_> = placed.considered.iter().map(|c| (c.verdict, c.reason.as_str())).collect();
    assert_eq!(verdicts[0], (Verdict::NotChosen, "0000:02:00.0 will do, so it stays whole"));
    let why = "2 of vf-8, the smallest that fits; keeps 0000:01:00.0 whole";
    assert_eq!(verdicts[1], (Verdict::Chosen, why));
}

#[test]
fn among_equals_the_first_address_and_one_gpu_until_it_is_full() {
    let placed = pack(&size_of(10, 9), &[sriov(2, 0), sriov(1, 0)]).unwrap();
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
fn a_share_gets_the_smallest_profile_that_has_it_as_cap_or_guarantee() {
    for (compute, name) in
        [("25%", "vf-4"), ("13%", "vf-4"), ("25%+", "vf-4"), ("30%", "vf-2"), ("30%+", "vf-2")]
    {
        let placed = pack(&share_of(Some(16), compute, false), &[sriov(1, 0)]).unwrap();
        assert_eq!(placed.choices[0].profile.name.to_string(), name, "{compute}");
    }
}

#[test]
fn where_enforcement_is_insisted_on_no_other_gpu_will_do() {
    let gpus = [gim(1, AcceleratorMode::Spx), gim(2, AcceleratorMode::Cpx), sriov(3, 0)];
    for compute in ["25%", "25%+"] {
        let placed = pack(&share_of(None, compute, true), &gpus).unwrap();
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
    let refusal =
        pack(&share_of(None, "25%+", true), &[gim(1, AcceleratorMode::Spx), sriov(3, 0)]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Asked 25%+ of compute, enforced; no GPU here enforces that: 0000:01:00.0 has vf-4, whose floor is best effort, \
         0000:03:00.0 has vf-4, whose floor is not available; without `enforced` that would do"
    );
    let share = pack(&share_of(None, "30%", true), &[gim(2, AcceleratorMode::Cpx)]).unwrap_err();
    assert!(matches!(share.shortage, Shortage::TooLarge { .. }), "{share}");
    let full = pack(&Request { count: 5, ..share_of(None, "25%", true) }, &gpus).unwrap_err();
    assert!(matches!(full.shortage, Shortage::TooMany { capacity: 4, .. }), "{full}");
}

#[test]
fn never_and_not_now_are_told_apart() {
    let refused = |count, gpus: &[GpuView]| pack(&size_of(10, count), gpus).unwrap_err().shortage;
    assert!(matches!(refused(9, &[sriov(1, 0)]), Shortage::TooMany { capacity: 8, .. }));
    assert!(matches!(refused(3, &[sriov(1, 6)]), Shortage::NotNow { available: 2, .. }));
}

#[test]
fn a_request_says_which_name_is_unknown() {
    let want = Want::Profile("vf-3".parse().unwrap());
    let text = shortage(&Request { want, gpu: None, numa: None, count: 1 }, &[sriov(1, 0)]);
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
    let placed = pack(&size_of(1, 1), &[broken, sriov(2, 0)]).unwrap();
    assert_eq!(placed.considered[0].reason, why);
}

#[test]
fn a_gpu_that_is_cut_otherwise_is_not_now_and_says_so() {
    let cut = sriov(1, 2);
    let want = Want::Profile("vf-4".parse().unwrap());
    let refusal = pack(&Request { want, gpu: None, numa: None, count: 1 }, &[cut]).unwrap_err();
    assert!(matches!(refusal.shortage, Shortage::NotNow { available: 0, .. }), "{refusal:?}");
    let reason = &refusal.considered[0].reason;
    assert_eq!(reason, "it is cut into vf-8 now, and can be cut otherwise when it is empty");
}

#[test]
fn a_full_mdev_parent_has_no_room_now() {
    let refusal = pack(&size_of(16, 1), &[mdev(1, 0, 0, 4)]).unwrap_err();
    assert!(matches!(refusal.shortage, Shortage::NotNow { available: 0, .. }), "{refusal:?}");
}

/// VFs that somebody else has stay theirs, however many slices one request brings.
#[test]
fn foreign_vfs_are_counted_once_for_all_slices_of_a_request() {
    let mut gpu = sriov(1, 2).gpu;
    let view = |gpu: &Gpu| GpuView::new(gpu.clone(), Ok(MechanismKind::Sriov), vec![], Emptying::Never);
    let ask = |count| pack(&size_of(10, count), &[view(&gpu)]);
    assert_eq!(ask(6).unwrap().choices.len(), 6);
    assert!(matches!(ask(7).unwrap_err().shortage, Shortage::NotNow { available: 6, .. }));
    gpu.sriov.as_mut().unwrap().bound = 8;
    assert!(pack(&size_of(10, 1), &[view(&gpu)]).is_err());
}

#[test]
fn a_slice_goes_where_the_smallest_that_satisfies_is_smaller() {
    let placed = pack(&size_of(10, 1), &[mdev(1, 0, 4, 0), sriov(2, 0)]).unwrap();
    assert_eq!(
        reasons(&placed.considered),
        [
            "the smallest that fits is medium (32MiB); 0000:02:00.0 has vf-8 (16MiB, 12.5%)",
            "1 of vf-8, the smallest that fits; that of 0000:01:00.0 is larger",
        ]
    );
}

/// A GPU of vGPUs that all have the size of the first, of which no more are than VFs: small ones leave
/// memory that nothing fits.
/// The smallest one may run out before the request is served.
#[test]
fn slices_of_several_profiles_are_counted_by_profile() {
    let placed = pack(&size_of(10, 3), &[mdev(1, 1, 3, 0)]).unwrap();
    assert_eq!(reasons(&placed.considered), ["1 of small and 2 of medium, the smallest that fits"]);
}

#[test]
fn memory_that_no_profile_fits_is_not_left_where_another_gpu_leaves_less() {
    let placed = pack(&size_of(1 << 10, 1), &[equal_size(1, 16), equal_size(2, 48)]).unwrap();
    assert_eq!(placed.choices[0].gpu, address(2));
    assert_eq!(
        reasons(&placed.considered),
        [
            "would leave 32GiB that no profile fits",
            "1 of L40S-1Q, the smallest that fits; 0000:01:00.0 would leave 32GiB that no profile fits",
        ]
    );
}

/// An L40S of 48GiB with that many VFs.
fn equal_size(bus: u8, vfs: u16) -> GpuView {
    let id = PciId { vendor: 0x10de, device: 0x26b9 };
    let sriov = SriovCapability { total: vfs, enabled: 0, bound: 0, vf_aperture: None };
    let sriov_manage = "/usr/lib/nvidia/sriov-manage".into();
    let gpu = Gpu {
        driver: Some(DriverName("nvidia".to_owned())),
        sriov: Some(sriov),
        nvidia: Some(vgpud_mdev::nvidia::NvidiaVgpu::Off { sriov_manage, lacks: vec![] }),
        ..Gpu::new(address(bus), id, 0x03_0200)
    };
    GpuView::new(gpu, Ok(MechanismKind::NvidiaVfio), vec![], Emptying::BySlices)
}

#[test]
fn of_two_that_are_cut_alike_the_fuller_one_is_filled_up() {
    let placed = pack(&size_of(10, 1), &[sriov(1, 2), sriov(2, 5)]).unwrap();
    assert_eq!(
        reasons(&placed.considered),
        [
            "0000:02:00.0 is fuller, and this one may become empty",
            "1 of vf-8, the smallest that fits; fuller than 0000:01:00.0",
        ]
    );
}

#[test]
fn spread_takes_the_gpu_with_the_fewest_slices() {
    let gpus = [sriov(1, 2), sriov(2, 1), sriov(3, 1)];
    let placed = place(&size_of(10, 3), &gpus, PlacementStrategy::Spread).unwrap();
    let on: Vec<_> = placed.choices.iter().map(|choice| choice.gpu).collect();
    assert_eq!(on, [address(2), address(3), address(1)]);
    let placed = place(&size_of(10, 1), &gpus, PlacementStrategy::Spread).unwrap();
    assert_eq!(
        reasons(&placed.considered),
        [
            "has more slices than 0000:02:00.0",
            "1 of vf-8, the smallest that fits; comes before 0000:03:00.0, which is as good",
            "as good as 0000:02:00.0, which comes first by address",
        ]
    );
}

#[test]
fn a_node_that_is_preferred_comes_first_and_others_will_do() {
    let gpus = [on_node(1, sriov(1, 3)), on_node(0, sriov(2, 0)), sriov(3, 0)];
    let near = |count| Request { numa: Some("prefer:0".parse().unwrap()), ..size_of(10, count) };
    let placed = pack(&near(1), &gpus).unwrap();
    assert_eq!(
        reasons(&placed.considered),
        [
            "on NUMA node 1, 0 was asked for",
            "1 of vf-8, the smallest that fits; on the NUMA node that was asked for",
            "its NUMA node is not known, 0 was asked for",
        ]
    );
    let placed = pack(&near(9), &gpus).unwrap();
    assert_eq!(placed.choices.last().unwrap().gpu, address(1));
}

#[test]
fn a_node_that_is_required_is_the_only_one() {
    let gpus = [on_node(1, sriov(1, 3)), on_node(0, sriov(2, 7))];
    let only = |node: u32, count| Request {
        numa: Some(format!("require:{node}").parse().unwrap()),
        ..size_of(10, count)
    };
    let placed = pack(&only(0, 1), &gpus).unwrap();
    assert_eq!(reasons(&placed.considered)[0], "on NUMA node 1, 0 is required");
    assert_eq!(
        shortage(&only(0, 2), &gpus),
        "Asked 2 of 10MiB on NUMA node 0; 1 can be created now, more when slices are destroyed"
    );
    assert_eq!(
        shortage(&only(3, 1), &gpus),
        "No GPU that can be cut is on NUMA node 3, which is required; they are on 0, 1"
    );
    let named = Request { gpu: Some(address(1)), ..only(0, 1) };
    assert_eq!(
        shortage(&named, &gpus),
        "GPU 0000:01:00.0 is not on NUMA node 0, which is required; it is on 1"
    );
    let vf_8 = Request { want: Want::Profile("vf-8".parse().unwrap()), ..only(0, 1) };
    assert_eq!(
        shortage(&vf_8, &[on_node(1, sriov(1, 3)), on_node(0, mdev(2, 8, 4, 0))]),
        "No GPU with the profile vf-8 is on NUMA node 0, which is required; they are on 1"
    );
    let unknown = shortage(&only(0, 1), &[sriov(1, 0)]);
    assert!(unknown.ends_with("which is required; this host names no node of them"), "{unknown}");
}

fn some_gpu() -> impl Strategy<Value = (u8, u32, u16)> {
    (0_u8..3, 0_u32..2, 0_u16..=8)
}

/// A host with GPUs of several kinds, some with slices, in order of address.
fn host(kinds: &[(u8, u32, u16)]) -> Vec<GpuView> {
    let gpu = |(bus, (kind, node, slices)): (u8, &(u8, u32, u16))| {
        let view = match kind {
            0 => sriov(bus, *slices),
            1 => mdev(bus, u32::from(*slices), u32::from(*slices) / 2, usize::from(8 - slices)),
            _ => equal_size(bus, 2 + slices),
        };
        on_node(*node, view)
    };
    (1..).zip(kinds).map(gpu).collect()
}

fn some_request() -> impl Strategy<Value = Request> {
    let affinity = prop_oneof![Just(None), Just(Some("prefer:0")), Just(Some("require:1"))];
    (prop_oneof![1_u64..40, 900_u64..20_000], 1_u32..12, affinity).prop_map(|(mib, count, numa)| Request {
        numa: numa.map(|text| text.parse().unwrap()),
        ..size_of(mib, count)
    })
}

fn some_strategy() -> impl Strategy<Value = PlacementStrategy> {
    prop_oneof![Just(PlacementStrategy::Pack), Just(PlacementStrategy::Spread)]
}

proptest! {
    /// All or none, never more than there is, each large enough, and a verdict on every GPU.
    #[test]
    fn what_is_placed_fits(
        kinds in prop::collection::vec(some_gpu(), 0..6),
        request in some_request(),
        strategy in some_strategy(),
    ) {
        let gpus = host(&kinds);
        let outcome = place(&request, &gpus, strategy);
        let considered = match &outcome {
            Ok(placement) => &placement.considered,
            Err(refusal) => &refusal.considered,
        };
        let addresses: Vec<_> = considered.iter().map(|consideration| consideration.gpu).collect();
        prop_assert_eq!(addresses, gpus.iter().map(GpuView::address).collect::<Vec<_>>());
        let Ok(placement) = &outcome else {
            prop_assert!(considered.iter().all(|one| one.verdict == Verdict::NotChosen));
            return Ok(());
        };
        prop_assert_eq!(placement.choices.len(), usize::try_from(request.count).unwrap());
        let mut left = gpus.clone();
        for choice in &placement.choices {
            let gpu = left.iter_mut().find(|gpu| gpu.address() == choice.gpu).unwrap();
            prop_assert!(eligible(&request, gpu));
            let offered = gpu.profiles.iter().find(|profile| profile.name == choice.profile.name).unwrap();
            prop_assert!(offered.available > 0 && request.want.accepts(offered));
            gpu.take(&choice.profile.name);
        }
        for one in considered {
            let chosen = placement.choices.iter().any(|choice| choice.gpu == one.gpu);
            prop_assert_eq!(chosen, one.verdict == Verdict::Chosen);
        }
    }

    #[test]
    fn the_order_of_the_gpus_changes_nothing(
        kinds in prop::collection::vec(some_gpu(), 1..6),
        request in some_request(),
        strategy in some_strategy(),
        at in any::<Index>(),
    ) {
        let gpus = host(&kinds);
        let mut turned = gpus.clone();
        turned.rotate_left(at.index(gpus.len()));
        turned.reverse();
        match (place(&request, &gpus, strategy), place(&request, &turned, strategy)) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(one.choices, other.choices);
                let mut considered = other.considered;
                considered.sort_by_key(|one| one.gpu);
                prop_assert_eq!(one.considered, considered);
            }
            (one, other) => prop_assert_eq!(one.is_err(), other.is_err()),
        }
    }

    /// A request that fits is never refused, whoever chooses: one slice fits where any GPU has room.
    #[test]
    fn one_slice_is_refused_only_where_no_gpu_has_room(
        kinds in prop::collection::vec(some_gpu(), 0..6),
        request in some_request(),
        strategy in some_strategy(),
    ) {
        let (gpus, request) = (host(&kinds), Request { count: 1, ..request });
        let has_room = |gpu: &GpuView| {
            let mut fitting = gpu.profiles.iter().filter(|profile| request.want.accepts(profile));
            eligible(&request, gpu) && fitting.any(|profile| profile.available > 0)
        };
        prop_assert_eq!(place(&request, &gpus, strategy).is_ok(), gpus.iter().any(has_room));
    }
}
