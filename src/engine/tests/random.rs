//! Random events in any order: `step` asserts the invariants after each, and no slice is lost.

use super::*;
use crate::engine::Partition;
use proptest::prelude::*;
use vgpud_config::{MemoryMode, PartitionModes};

fn id() -> impl Strategy<Value = SliceId> {
    (1_u64..7).prop_map(SliceId::new)
}

fn why() -> String {
    "of a fault".to_owned()
}

fn fresh() -> impl Strategy<Value = InstanceName> {
    (0_u128..4).prop_map(|number| InstanceName::Mdev(MdevUuid(Uuid::from_u128(number))))
}

fn shown_instance() -> impl Strategy<Value = Shown> {
    prop_oneof![
        Just(Shown::There),
        Just(Shown::Other("vf-8".parse().unwrap())),
        Just(Shown::Gone),
        Just(Shown::Undivided),
        Just(Shown::GpuAbsent),
    ]
}

fn asked() -> impl Strategy<Value = Event> {
    let plan = (prop::collection::vec((1_u8..3, 0_u16..5), 1..4), any::<bool>());
    prop_oneof![
        plan.prop_map(|(places, owned)| Event::Plan {
            slices: places.into_iter().map(|(bus, index)| planned(bus, index)).collect(),
            claim: owned.then(|| Claim::new(owner())),
            at: AT,
        }),
        id().prop_map(|slice| Event::Begin { slice }),
        (id(), any::<bool>()).prop_map(|(slice, other)| Event::Lease {
            slice,
            claim: Claim::new(if other { "pod-b".parse().unwrap() } else { owner() }),
            holder: None,
            at: AT,
        }),
        id().prop_map(|slice| Event::Release { slice, generation: None, cause: ReleaseCause::Asked }),
        (id(), any::<bool>()).prop_map(|(slice, release)| Event::Destroy {
            slice,
            leased: if release { LeasedSlice::Release } else { LeasedSlice::Refuse },
        }),
        (id(), shown_instance()).prop_map(|(slice, shown)| Event::Clear { slice, shown }),
        id().prop_map(|slice| Event::Quarantine { slice, reason: why(), by: Actor::Vgpud }),
        (1_u8..3).prop_map(quarantine_gpu),
        (1_u8..3).prop_map(clear_gpu),
        (1_u8..3).prop_map(clear_gpu),
        partition().prop_map(Event::Partition),
    ]
}

fn partition() -> impl Strategy<Value = Partition> {
    (1_u8..3, any::<bool>()).prop_map(|(bus, both)| Partition {
        mechanism: MechanismKind::AmdGim,
        modes: PartitionModes { memory: Some(MemoryMode::Nps1), accelerator: None },
        asked: [gpu(bus)].into(),
        gpus: if both { [gpu(1), gpu(2)].into() } else { [gpu(bus)].into() },
    })
}

fn outcome() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => id().prop_map(|slice| Event::Created { slice, at: AT }),
        1 => (id(), any::<bool>()).prop_map(|(slice, ran)| Event::CreateFailed {
            slice,
            why: why(),
            ran: if ran { Ran::Begun } else { Ran::Never },
        }),
        4 => id().prop_map(|slice| Event::HandedOver { slice, handover: handover() }),
        1 => id().prop_map(|slice| Event::HandOverFailed { slice, why: why() }),
        3 => id().prop_map(|slice| Event::Withdrawn { slice }),
        1 => id().prop_map(|slice| Event::StillHeld { slice, why: why() }),
        1 => id().prop_map(|slice| Event::WithdrawFailed { slice, why: why() }),
        3 => id().prop_map(|slice| Event::Scrubbed { slice, evidence: None }),
        1 => id().prop_map(|slice| Event::Kept { slice, why: why() }),
        1 => (id(), fresh()).prop_map(|(slice, fresh)| Event::NoReset { slice, fresh, why: None }),
        1 => id().prop_map(|slice| Event::ScrubFailed { slice, why: why() }),
        1 => id().prop_map(|slice| Event::ResetFailed { slice, why: why() }),
        3 => id().prop_map(|slice| Event::Destroyed { slice }),
        1 => id().prop_map(|slice| Event::DestroyFailed { slice, why: why() }),
        3 => partition().prop_map(Event::Partitioned),
        1 => partition().prop_map(|partition| Event::PartitionFailed { partition, why: why() }),
    ]
}

fn shown() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1_u8..3).prop_map(|bus| Event::Retired { gpu: gpu(bus) }),
        (1_u8..3).prop_map(|bus| Event::RetireFailed { gpu: gpu(bus), why: why() }),
        id().prop_map(|slice| Event::Overdue { slice, waiting_for: why() }),
        id().prop_map(|slice| Event::LateResult { slice, result: why() }),
        (1_u8..3).prop_map(|bus| Event::GpuVanished { gpu: gpu(bus) }),
        (1_u8..3).prop_map(|bus| Event::GpuReturned { gpu: gpu(bus) }),
        id().prop_map(|slice| Event::Contradiction { slice, why: why() }),
        id().prop_map(|slice| Event::Rebooted { slice, origin: Origin::Found }),
        id().prop_map(|slice| Event::Resume { slice }),
        (1_u8..3).prop_map(|bus| Event::ResumeRetire { gpu: gpu(bus) }),
        (1_u8..3).prop_map(|bus| Event::Forget { gpu: gpu(bus) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_events_keep_the_invariants(
        events in prop::collection::vec(prop_oneof![2 => asked(), 5 => outcome(), 1 => shown()], 1..120)
    ) {
        let mut state = State::default();
        for event in events {
            let Ok(next) = step(&state, event) else { continue };
            for effect in &next.effects {
                // Every effect belongs to the phase that it moves on, so that a restart finds it.
                let Some(slice) = effect.slice().and_then(|id| next.state.slices.get(&id)) else { continue };
                let found = matches!(
                    (effect, &slice.phase),
                    (Effect::Create { .. }, Phase::Creating)
                        | (Effect::HandOver { .. }, Phase::Leased { .. })
                        | (Effect::Withdraw { .. }, Phase::Releasing { .. })
                        | (Effect::Reset { .. }, Phase::Scrubbing)
                        | (Effect::Destroy { .. }, Phase::Destroying)
                        | (Effect::Unpublish { .. }, _)
                );
                // A GPU that vanishes takes effects along that were decided a moment earlier.
                prop_assert!(found || matches!(slice.phase, Phase::Quarantined { .. }), "{effect} at {}", slice.phase);
            }
            state = next.state;
        }
        // Whatever state was reached, every slice can be brought to an end.
        let ids: Vec<_> = state.slices.keys().copied().collect();
        for _ in 0..8 {
            for slice in &ids {
                for event in ending(*slice) {
                    if let Ok(next) = step(&state, event) {
                        state = next.state;
                    }
                }
            }
        }
        prop_assert!(state.slices.is_empty(), "left over: {:?}", state.slices);
    }
}

fn ending(slice: SliceId) -> Vec<Event> {
    vec![
        Event::Begin { slice },
        Event::Created { slice, at: AT },
        Event::HandedOver { slice, handover: handover() },
        Event::Destroy { slice, leased: LeasedSlice::Release },
        Event::Withdrawn { slice },
        Event::Scrubbed { slice, evidence: None },
        Event::Destroyed { slice },
    ]
}
