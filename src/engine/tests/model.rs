//! The engine under random operations and faults, against an independent reference.
//!
//! Three parts play together: [`drive`] does what the daemon's core does (one queue of effects a GPU,
//! deadlines, crashes, reconciliation), [`host`] is a machine reduced to what matters (instances, whose
//! data they hold, who has them open, CDI files), and [`books`] is the reference: who may have which
//! slice, by which lease, and how many fit. After each step all three must agree.
//!
//! The seed is fixed; `PROPTEST_RNG_SEED=N` takes another one, `PROPTEST_CASES=N` more cases.

use super::*;
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestCaseError, TestError, TestRunner},
};
use std::{cell::Cell, io::Write as _};

mod books;
mod drive;
mod host;

use drive::Drive;

const CASES: u32 = 300;
/// At most, in one case.
const OPERATIONS: usize = 800;

/// Something that a client, the kernel, a micro-VM or bad luck does. Numbers choose among what is
/// there at that moment.
#[derive(Clone, Debug)]
enum Operation {
    Create {
        gpu: u8,
        names: Vec<u8>,
        owner: Option<u8>,
    },
    Lease {
        slice: u8,
        owner: u8,
        holder: Presence,
    },
    Release {
        slice: u8,
        lease: WhichLease,
    },
    Destroy {
        slice: u8,
        leased: LeasedSlice,
    },
    /// An operator says that a quarantined slice may be used again.
    Clear {
        slice: u8,
    },
    /// An operator puts a slice out of use.
    Quarantine {
        slice: u8,
    },
    /// The same of a whole GPU.
    QuarantineGpu {
        gpu: u8,
    },
    ClearGpu {
        gpu: u8,
    },
    /// A micro-VM opens the device that it was handed.
    Open {
        slice: u8,
    },
    /// A micro-VM ends.
    Close {
        vm: u8,
    },
    HolderEnds {
        slice: u8,
    },
    TimeIsUp {
        slice: u8,
    },
    Extend {
        slice: u8,
        by: u16,
    },
    /// The effect that runs on a GPU comes back.
    Work {
        gpu: u8,
        end: End,
    },
    /// The effect that runs on a GPU passes its deadline.
    Overdue {
        gpu: u8,
    },
    /// The daemon is killed and started again.
    Crash {
        running: CrashPoint,
    },
    Reboot,
    Vanish {
        gpu: u8,
    },
    Return {
        gpu: u8,
    },
    /// Somebody else removes an instance that nobody has open.
    Tamper {
        instance: u8,
    },
    /// The daemon reads the host.
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhichLease {
    Any,
    Current,
    Former,
}

/// How an effect ends, where the host does not decide that itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    AsItGoes,
    /// Held devices are not waited for any longer.
    OutOfPatience,
    FailsBefore,
    /// It was done, and its read-back failed.
    FailsAfter,
    /// A reset that leaves its owner's data, which is not shown to be gone.
    LeavesData,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CrashPoint {
    BeforeEffects,
    AfterEffects,
}

fn operation() -> impl Strategy<Value = Operation> {
    let gpu = || 0_u8..host::GPUS;
    let slice = || 0_u8..8;
    let owner = || 0_u8..3;
    let end = prop_oneof![
        12 => Just(End::AsItGoes),
        2 => Just(End::OutOfPatience),
        1 => Just(End::FailsBefore),
        1 => Just(End::FailsAfter),
        2 => Just(End::LeavesData),
    ];
    let presence = prop_oneof![Just(Presence::Yes), Just(Presence::No)];
    let lease = prop_oneof![3 => Just(WhichLease::Any), 2 => Just(WhichLease::Current), 1 => Just(WhichLease::Former)];
    let leased = prop_oneof![Just(LeasedSlice::Refuse), Just(LeasedSlice::Release)];
    let point = prop_oneof![Just(CrashPoint::BeforeEffects), Just(CrashPoint::AfterEffects)];
    prop_oneof![
        8 => (gpu(), prop::collection::vec(0_u8..5, 1..4), prop::option::of(owner()))
            .prop_map(|(gpu, names, owner)| Operation::Create { gpu, names, owner }),
        10 => (slice(), owner(), presence)
            .prop_map(|(slice, owner, holder)| Operation::Lease { slice, owner, holder }),
        6 => (slice(), lease).prop_map(|(slice, lease)| Operation::Release { slice, lease }),
        4 => (slice(), leased).prop_map(|(slice, leased)| Operation::Destroy { slice, leased }),
        4 => slice().prop_map(|slice| Operation::Clear { slice }),
        1 => slice().prop_map(|slice| Operation::Quarantine { slice }),
        1 => gpu().prop_map(|gpu| Operation::QuarantineGpu { gpu }),
        5 => gpu().prop_map(|gpu| Operation::ClearGpu { gpu }),
        8 => slice().prop_map(|slice| Operation::Open { slice }),
        6 => slice().prop_map(|vm| Operation::Close { vm }),
        3 => slice().prop_map(|slice| Operation::HolderEnds { slice }),
        3 => slice().prop_map(|slice| Operation::TimeIsUp { slice }),
        2 => (slice(), any::<u16>()).prop_map(|(slice, by)| Operation::Extend { slice, by }),
        45 => (gpu(), end).prop_map(|(gpu, end)| Operation::Work { gpu, end }),
        1 => gpu().prop_map(|gpu| Operation::Overdue { gpu }),
        2 => point.prop_map(|running| Operation::Crash { running }),
        1 => Just(Operation::Reboot),
        1 => gpu().prop_map(|gpu| Operation::Vanish { gpu }),
        3 => gpu().prop_map(|gpu| Operation::Return { gpu }),
        1 => (0_u8..8).prop_map(|instance| Operation::Tamper { instance }),
        2 => Just(Operation::Look),
    ]
}

#[test]
fn no_sequence_of_operations_and_faults_breaks_what_must_be_so() {
    let mut config = ProptestConfig { cases: CASES, max_shrink_iters: 4_000, ..ProptestConfig::default() };
    config.cases = config.cases.max(CASES);
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0x5647_5055);
    }
    config.source_file = Some(file!());
    let done = Cell::new(0_u64);
    let operations = prop::collection::vec(operation(), 1..=OPERATIONS);
    let result = TestRunner::new(config).run(&operations, |operations| {
        let mut drive = Drive::new();
        for operation in operations {
            let what = format!("{operation:?}");
            drive.operate(operation).map_err(|why| TestCaseError::fail(format!("{why}, after {what}")))?;
            done.set(done.get() + 1);
        }
        drive.bring_to_an_end().map_err(|why| TestCaseError::fail(format!("{why}, at the end")))
    });
    let violations = u8::from(result.is_err());
    // Past libtest's capture: the figure is what this test is run for.
    writeln!(std::io::stderr(), "model: {} operations, {violations} violations", done.get()).unwrap();
    match result {
        Ok(()) => assert!(done.get() >= 100_000, "only {} operations", done.get()),
        Err(TestError::Fail(why, least)) => panic!("{why}; least sequence: {least:#?}"),
        Err(TestError::Abort(why)) => panic!("given up: {why}"),
    }
}
