use super::*;
use crate::engine::{Actor, Generation, Lease, Quarantine, QuarantineCause, UnixMillis};
use proptest::prelude::*;
use vgpud_config::{Consumer, MechanismKind, PciId};
use vgpud_mdev::{DriverName, InstanceName, MdevType, MdevUuid, SriovCapability, VfIndex};

const MIB: u64 = 1 << 20;

/// A GPU that behaves: VFs all at once, or mediated devices that share 128 MiB.
#[derive(Clone, Debug)]
struct Bench {
    kind: MechanismKind,
    emptying: Emptying,
    /// VFs that were there before vgpud.
    found: u16,
    /// On a driver, and no slice's.
    foreign: u16,
    slices: Vec<Slice>,
    last_id: u64,
}

fn name(text: &str) -> ProfileName {
    text.parse().unwrap()
}

fn count_of(profile: &ProfileName) -> u16 {
    profile.as_ref().strip_prefix("vf-").unwrap().parse().unwrap()
}

fn mdev_size(profile: &ProfileName) -> u64 {
    match profile.as_ref() {
        "small" => 16,
        "medium" => 32,
        _ => 64,
    }
}

impl Bench {
    const fn sriov() -> Self {
        Self {
            kind: MechanismKind::Sriov,
            emptying: Emptying::BySlices,
            found: 0,
            foreign: 0,
            slices: Vec::new(),
            last_id: 0,
        }
    }

    fn gim(found: u16) -> Self {
        Self { kind: MechanismKind::AmdGim, emptying: Emptying::Never, found, ..Self::sriov() }
    }

    fn mdev() -> Self {
        Self { kind: MechanismKind::Mdev, ..Self::sriov() }
    }

    fn with(mut self, profiles: &[&str]) -> Self {
        for profile in profiles {
            self.create(&name(profile));
        }
        self
    }

    fn create(&mut self, profile: &ProfileName) {
        self.last_id += 1;
        let uuid = uuid::Uuid::from_u128(self.last_id.into());
        let (instance, memory, compute) = match self.kind {
            MechanismKind::Mdev => (InstanceName::Mdev(MdevUuid(uuid)), mdev_size(profile), None),
            _ => {
                let count = count_of(profile);
                let index = VfIndex(u16::try_from(self.last_id).unwrap());
                (InstanceName::Vf(index), 128 / u64::from(count), Some(ComputeShare::one_of(count)))
            }
        };
        self.slices.push(Slice {
            id: SliceId::new(self.last_id),
            gpu: "0000:41:00.0".parse().unwrap(),
            mechanism: self.kind,
            profile: profile.clone(),
            name: instance,
            memory: Some(Memory::from_bytes(memory * MIB)),
            compute,
            phase: Phase::Ready,
            fate: Fate::Keep,
            tie: None,
            generation: Generation(0),
            data_of: None,
            created: UnixMillis(0),
        });
    }

    fn gpu(&self) -> Gpu {
        let id = PciId { vendor: 0x1002, device: 0x74a1 };
        let mut gpu = Gpu::new("0000:41:00.0".parse().unwrap(), id, 0x12_0000);
        let driver = if self.kind == MechanismKind::AmdGim { "gim" } else { "simgpu" };
        gpu.driver = Some(DriverName(driver.to_owned()));
        let used = u16::try_from(self.slices.len()).unwrap();
        if self.kind == MechanismKind::Mdev {
            let taken: u64 = self.slices.iter().map(|slice| mdev_size(&slice.profile)).sum();
            for profile in ["small", "medium", "large"] {
                let profile = name(profile);
                let size = mdev_size(&profile);
                let existing = self.slices.iter().filter(|slice| slice.profile == profile).count();
                gpu.mdev_types.push(MdevType {
                    most: None,
                    id: profile,
                    name: None,
                    description: None,
                    available: u32::try_from((128 - taken) / size).unwrap(),
                    existing: u32::try_from(existing).unwrap(),
                    memory: Some(Memory::from_bytes(size * MIB)),
                });
            }
        } else {
            let enabled = self.slices.first().map_or(self.found, |slice| count_of(&slice.profile));
            // The aperture of the simulated card does not depend on the count; shares do.
            let vf_aperture = Some(Memory::from_bytes(16 * MIB));
            gpu.sriov = Some(SriovCapability { total: 8, enabled, bound: used + self.foreign, vf_aperture });
        }
        gpu
    }

    fn site(&self) -> Site<'_> {
        let taken = |slice: &Slice| Taken { profile: slice.profile.clone(), exists: true };
        let slices: Vec<_> = self.slices.iter().map(|slice| (slice, taken(slice))).collect();
        let all = slices.iter().map(|(_, taken)| taken.clone()).collect();
        Site {
            view: GpuView::new(self.gpu(), Ok(self.kind), all, self.emptying),
            emptying: self.emptying,
            slices,
        }
    }

    fn plan(&self, goal: &[(Want, u32)]) -> GpuPlan {
        plan(&self.site(), goal)
    }

    /// Does it, as the daemon does; false where something did not fit.
    fn apply(&mut self, plan: &GpuPlan) -> bool {
        self.slices.retain(|slice| !plan.remove.contains(&slice.id));
        for (profile, count) in &plan.create {
            for _ in 0..*count {
                let site = self.site();
                let request =
                    Request { want: Want::Profile(profile.clone()), gpu: None, numa: None, count: 1 };
                if place(&request, &[site.view], PlacementStrategy::default()).is_err() {
                    return false;
                }
                self.create(profile);
            }
        }
        true
    }

    fn phase(mut self, id: u64, change: impl Fn(&mut Slice)) -> Self {
        let slice = self.slices.iter_mut().find(|slice| slice.id == SliceId::new(id)).unwrap();
        change(slice);
        self
    }
}

/// What happens to a slice.
type Change = fn(&mut Slice);

fn leased(slice: &mut Slice) {
    let lease = Lease {
        owner: "team-a".parse().unwrap(),
        since: UnixMillis(0),
        holder: None,
        handover: None,
        consumer: Consumer::default(),
        until: None,
        ending: None,
        overdue: None,
    };
    slice.phase = Phase::Leased { lease };
}

fn quarantined(slice: &mut Slice) {
    let (cause, evidence, by) = (QuarantineCause::ScrubFailed, "it reads ones".to_owned(), Actor::default());
    slice.phase = Phase::Quarantined { why: Quarantine { cause, evidence, by } };
}

fn reserved(slice: &mut Slice) {
    slice.data_of = Some("team-a".parse().unwrap());
}

fn destroying(slice: &mut Slice) {
    (slice.phase, slice.fate) = (Phase::Destroying, Fate::Destroy);
}

fn of(profile: &str, count: u32) -> (Want, u32) {
    (Want::Profile(name(profile)), count)
}

fn at_least(mib: u64, count: u32) -> (Want, u32) {
    (Want::Size { memory: Some(Memory::from_bytes(mib * MIB)), compute: None }, count)
}

fn ids(ids: &[SliceId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn created(plan: &GpuPlan) -> String {
    plan.create.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_wanted_stays_and_the_rest_goes_and_comes() {
    let bench = Bench::sriov().with(&["vf-4"; 3]);
    let plan = bench.plan(&[of("vf-4", 4)]);
    assert_eq!((ids(&plan.keep).as_str(), ids(&plan.remove).as_str()), ("s1 s2 s3", ""));
    assert_eq!(created(&plan), "1 vf-4");
    let plan = bench.plan(&[of("vf-4", 1)]);
    assert_eq!((ids(&plan.keep).as_str(), ids(&plan.remove).as_str()), ("s1", "s2 s3"));
    let plan = bench.plan(&[of("vf-8", 8)]);
    assert_eq!((ids(&plan.remove).as_str(), created(&plan).as_str()), ("s1 s2 s3", "8 vf-8"));
    assert!(!plan.is_unsure, "what a GPU without VFs offers is known");
    let plan = bench.plan(&[]);
    assert_eq!((ids(&plan.remove).as_str(), plan.has_steps()), ("s1 s2 s3", true));
    assert_eq!(
        Bench::sriov().plan(&[]),
        GpuPlan { blocked: None, ..GpuPlan::blocked(bench.gpu().address, "".into()) }
    );
}

#[test]
fn a_slice_that_is_not_free_is_never_removed_and_blocks_where_it_is_not_wanted() {
    let changes: [(Change, &str); 3] = [
        (leased, "s2 (vf-4) is leased to team-a; it can go when it is released"),
        (quarantined, "s2 (vf-4) is quarantined; `vgpuctl quarantine clear s2`"),
        (reserved, "s2 (vf-4) is kept for team-a; `vgpuctl destroy s2`"),
    ];
    for (change, wanted) in changes {
        let bench = Bench::sriov().with(&["vf-4"; 3]).phase(2, change);
        let plan = bench.plan(&[of("vf-8", 8)]);
        assert!(plan.blocked.as_ref().unwrap().contains(wanted), "{plan:?}");
        assert!(!plan.has_steps() && plan.keep.is_empty(), "nothing by halves: {plan:?}");
    }
    let bench = Bench::sriov().with(&["vf-4"; 3]).phase(2, leased);
    let plan = bench.plan(&[of("vf-4", 2)]);
    assert_eq!((ids(&plan.keep).as_str(), ids(&plan.remove).as_str()), ("s1 s2", "s3"));
    let plan = Bench::sriov().with(&["vf-4"; 3]).phase(2, quarantined).plan(&[of("vf-4", 3)]);
    assert!(plan.blocked.is_some(), "a quarantined slice is nobody's: {plan:?}");
}

#[test]
fn a_removal_under_way_is_waited_for() {
    let bench = Bench::sriov().with(&["vf-4"; 2]).phase(1, destroying);
    let plan = bench.plan(&[of("vf-4", 2)]);
    assert_eq!((ids(&plan.keep).as_str(), ids(&plan.remove).as_str()), ("s2", "s1"));
    assert_eq!(created(&plan), "1 vf-4");
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_done() {
    let plan = Bench::sriov().with(&["vf-8"; 2]).plan(&[of("vf-4", 5)]);
    assert!(plan.blocked.as_ref().unwrap().contains("beside what the layout wants too"), "{plan:?}");
    let plan = Bench::sriov().plan(&[of("vf-4", 2), of("vf-8", 1)]);
    assert!(plan.blocked.is_some(), "VFs are all alike: {plan:?}");
    let plan = Bench::sriov().plan(&[of("vf-3", 1)]);
    assert!(plan.blocked.as_ref().unwrap().contains("No GPU offers the profile vf-3"), "{plan:?}");
    let mut bench = Bench::gim(4);
    bench.foreign = 2;
    assert!(bench.plan(&[of("vf-4", 3)]).blocked.is_some(), "two VFs are somebody else's");
    assert_eq!(created(&bench.plan(&[of("vf-4", 2)])), "2 vf-4");
}

#[test]
fn room_that_only_the_device_knows_is_not_promised() {
    let bench = Bench::mdev().with(&["small"; 8]);
    let plan = bench.plan(&[of("large", 2)]);
    assert_eq!((plan.remove.len(), created(&plan).as_str(), plan.is_unsure), (8, "2 large", true));
    let plan = bench.plan(&[of("small", 9)]);
    assert!(plan.blocked.is_some(), "nothing goes, so the count for now is what fits: {plan:?}");
    let plan = Bench::mdev().with(&["small", "medium"]).plan(&[at_least(20, 2)]);
    assert_eq!((ids(&plan.keep).as_str(), ids(&plan.remove).as_str()), ("s2", "s1"));
    assert_eq!(created(&plan), "1 medium");
}

#[test]
fn another_count_of_gims_vfs_is_the_operators_step() {
    let bench = Bench::gim(4).with(&["vf-4"]);
    let goal: Goal = vec![of("vf-8", 8)];
    let plan = bench.plan(&goal);
    assert!(plan.blocked.as_ref().unwrap().contains("No GPU offers the profile vf-8"), "{plan:?}");
    assert!(!plan.has_steps());
    let gpu = bench.gpu();
    let state = State {
        slices: bench.slices.iter().map(|slice| (slice.id, slice.clone())).collect(),
        ..State::default()
    };
    let steps = for_the_operator(&state, &[&gpu], &[(gpu.address, goal)].into());
    let [OperatorStep { step, slices }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(
        (ids(slices).as_str(), step.commands[0].as_str()),
        ("s1", "echo 'options gim vf_num=8' > /etc/modprobe.d/gim.conf")
    );
    let there: Goal = vec![of("vf-4", 2)];
    assert!(for_the_operator(&state, &[&gpu], &[(gpu.address, there)].into()).is_empty());
}

fn benches() -> impl Strategy<Value = Bench> {
    let vfs = || prop::sample::select(vec!["vf-1", "vf-2", "vf-4", "vf-8"]);
    let sriov = (vfs(), 0_usize..9).prop_map(|(profile, slices)| {
        let most = usize::from(count_of(&name(profile)));
        Bench::sriov().with(&vec![profile; slices.min(most)])
    });
    let gim = (0_usize..5, 0_u16..3).prop_map(|(slices, foreign)| {
        let free = 4 - usize::from(foreign);
        Bench { foreign, ..Bench::gim(4) }.with(&vec!["vf-4"; slices.min(free)])
    });
    let types = prop::sample::select(vec!["small", "medium", "large"]);
    let mdev = prop::collection::vec(types, 0..9).prop_map(|types| {
        let mut left = 128;
        let fit = |profile: &&str| match mdev_size(&name(profile)) {
            size if size <= left => {
                left -= size;
                true
            }
            _ => false,
        };
        Bench::mdev().with(&types.into_iter().filter(fit).collect::<Vec<_>>())
    });
    let changes: Vec<Change> = vec![leased, quarantined, reserved, destroying];
    let changes = prop::collection::vec((0_usize..9, prop::sample::select(changes)), 0..3);
    (prop_oneof![sriov, gim, mdev], changes).prop_map(|(mut bench, changes)| {
        for (index, change) in changes {
            if let Some(slice) = bench.slices.get_mut(index) {
                change(slice);
            }
        }
        bench
    })
}

fn goals() -> impl Strategy<Value = Goal> {
    let profile =
        prop::sample::select(vec!["vf-1", "vf-2", "vf-4", "vf-8", "small", "medium", "large", "none"]);
    let want = prop_oneof![
        (profile, 1_u32..9).prop_map(|(profile, count)| of(profile, count)),
        (1_u64..130, 1_u32..5).prop_map(|(mib, count)| at_least(mib, count)),
    ];
    prop::collection::vec(want, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What was planned leads to the layout, and there is nothing to do then. Only slices that nobody has go.
    #[test]
    fn a_plan_that_was_done_leaves_nothing_to_do(mut bench in benches(), goal in goals()) {
        let before = bench.clone();
        let plan = bench.plan(&goal);
        for id in &plan.remove {
            let slice = before.slices.iter().find(|slice| slice.id == *id).unwrap();
            prop_assert_ne!(Removal::of(slice), Removal::No);
            prop_assert!(!plan.keep.contains(id));
        }
        if plan.blocked.is_some() {
            prop_assert!(!plan.has_steps());
            return Ok(());
        }
        let fitted = bench.apply(&plan);
        prop_assert!(fitted || plan.is_unsure, "{:?}", plan);
        if !fitted {
            return Ok(());
        }
        let after = bench.plan(&goal);
        prop_assert!(after.blocked.is_none() && !after.has_steps(), "{:?} then {:?}", plan, after);
        prop_assert_eq!(after.keep.len(), bench.slices.len());
        let wanted: u32 = goal.iter().map(|(_, count)| count).sum();
        prop_assert_eq!(bench.slices.len(), usize::try_from(wanted).unwrap());
    }

    /// A plan that was done by halves is found again and finished.
    #[test]
    fn a_plan_that_was_interrupted_is_finished(mut bench in benches(), goal in goals(), done in 0_usize..12) {
        let plan = bench.plan(&goal);
        if plan.blocked.is_some() {
            return Ok(());
        }
        let removed = plan.remove.len().min(done);
        let mut part = GpuPlan { create: Vec::new(), ..plan.clone() };
        part.remove.truncate(removed);
        bench.apply(&part);
        let mut left = done - removed;
        for (profile, count) in plan.create.iter().filter(|_| removed == plan.remove.len()) {
            let now = usize::try_from(*count).unwrap().min(left);
            left -= now;
            let some = GpuPlan {
                remove: Vec::new(),
                create: vec![(profile.clone(), u32::try_from(now).unwrap())],
                ..plan.clone()
            };
            if !bench.apply(&some) {
                return Ok(());
            }
        }
        let rest = bench.plan(&goal);
        if rest.blocked.is_some() {
            // The device has shown meanwhile that it does not fit.
            prop_assert!(plan.is_unsure, "{:?} then {:?}", plan, rest);
            return Ok(());
        }
        if bench.apply(&rest) {
            prop_assert!(!bench.plan(&goal).has_steps());
        } else {
            prop_assert!(plan.is_unsure || rest.is_unsure);
        }
    }
}
