//! GPUs that are divided anew inside.

use super::*;
use crate::engine::Partition;
use vgpud_config::{MemoryMode, PartitionModes};

fn partition() -> Partition {
    Partition {
        mechanism: MechanismKind::AmdGim,
        modes: PartitionModes { memory: Some(MemoryMode::Nps4), accelerator: None },
        asked: [gpu(2)].into(),
        gpus: [gpu(2), gpu(3)].into(),
    }
}

fn plan_on(bus: u8) -> Event {
    Event::Plan { slices: vec![planned(bus, 0)], claim: None, at: AT }
}

#[test]
fn nothing_comes_on_gpus_that_are_being_divided_anew() {
    for end in
        [Event::Partitioned(partition()), Event::PartitionFailed { partition: partition(), why: "x".into() }]
    {
        let mut driven = Driven::new();
        driven.on(Event::Partition(partition()));
        assert_eq!(driven.effects, ["partition"]);
        for bus in [2, 3] {
            assert_eq!(driven.refuse(plan_on(bus)), Rejected::BeingPartitioned(gpu(bus)));
        }
        assert_eq!(driven.refuse(Event::Partition(partition())), Rejected::BeingPartitioned(gpu(2)));
        driven.on(plan_on(4)).on(quarantine_gpu(3)).on(end);
        assert!(driven.state.partitioning.is_empty());
        driven.on(plan_on(2));
    }
}

#[test]
fn gpus_with_slices_or_out_of_use_are_not_divided_anew() {
    let mut driven = Driven::new();
    driven.on(plan_on(3));
    assert_eq!(driven.refuse(Event::Partition(partition())), Rejected::NotEmpty { gpu: gpu(3), slice: S1 });
    let mut driven = Driven::new();
    driven.on(quarantine_gpu(3));
    assert!(matches!(driven.refuse(Event::Partition(partition())), Rejected::GpuQuarantined { .. }));
}
