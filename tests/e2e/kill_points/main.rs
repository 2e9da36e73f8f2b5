//! vgpud, as it is, dies at each call that changes the host, on the real kernel, and starts again.
//!
//! A run without a death lists the calls of a slice's life: those on sysfs, through VFIO, on nodes, CDI
//! files, the socket and the ledger, of vgpud and of the processes that it starts for work on devices.
//! Then one run for each call is killed right before the kernel executes it. Calls of a device process
//! are walked twice: vgpud dies, and the process alone dies.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod call;
mod life;
mod owned;
#[path = "../support/mod.rs"]
mod support;
mod tracer;

use call::{Call, Kind, Maker, Places};
use life::{Bystander, Life, Place, comes_back};
use nix::sys::signal::Signal;
use owned::is_at_rest;
use std::{
    collections::BTreeMap,
    io::Write as _,
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::Command,
    time::Duration,
};
use support::{Daemon, Model, assert_nothing_left, wait_for};
use tracer::{Point, Trace, Traced, Victim};

/// For vgpud under the tracer to serve, to come to rest, or to end.
const LIMIT: Duration = Duration::from_secs(180);

/// A run of vgpud that is walked.
#[derive(Clone, Copy, Debug)]
struct Flow {
    place: Place,
    /// Walked is the start after a death at the last of these calls; none: a whole life, from a start
    /// with nothing to do to a clean stop.
    after: Option<&'static str>,
    /// What is walked of it where the time is short.
    quick: &'static [Kind],
}

/// A GPU that is cut for the slice and put back, one whose other VFs are in use, and one with mdevs.
const SIM: Place = Place { model: Model::Sim, profile: "vf-8" };
const MI300X: Place = Place { model: Model::Mi300x, profile: "vf-8" };
const MDEV: Place = Place { model: Model::Simmdev, profile: "simgpu_mdev-small" };

const DEVICE: &[Kind] = &[Kind::Sysfs, Kind::Process, Kind::Vfio];

const FLOWS: [Flow; 8] = [
    Flow { place: SIM, after: None, quick: &[Kind::Sysfs] },
    Flow {
        place: MI300X,
        after: None,
        quick: &[Kind::Process, Kind::Vfio, Kind::Node, Kind::Cdi, Kind::Socket, Kind::Ledger],
    },
    Flow { place: MDEV, after: None, quick: DEVICE },
    // Interrupted were the scrub after a lease (opening the device resets it), the creation, and the end.
    Flow { place: MI300X, after: Some("VFIO_GROUP_GET_DEVICE_FD"), quick: DEVICE },
    Flow { place: SIM, after: Some("write bind"), quick: &[] },
    Flow { place: SIM, after: Some("write sriov_numvfs"), quick: &[Kind::Sysfs] },
    Flow { place: MDEV, after: Some("write create"), quick: &[] },
    Flow { place: MDEV, after: Some("write remove"), quick: &[] },
];

/// Every so many of the ledger's calls are walked where the time is short; it has most of all calls.
const LEDGER_STEP: usize = 24;

/// What of a flow is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Of each call of the flow's quick kinds, the last time that it is made; where a device process makes it, the
    /// first too, at which that process dies.
    Quick,
    All,
}

fn places(daemon: &Daemon) -> Places {
    Places { state: daemon.state_dir(), socket: daemon.socket(), log: daemon.folder().join("log") }
}

/// What to kill at, from the calls of a run that was left alone.
fn points(flow: Flow, calls: &[Call], reach: Reach) -> Vec<Point> {
    let mut times: BTreeMap<&Call, usize> = BTreeMap::new();
    calls.iter().for_each(|call| *times.entry(call).or_default() += 1);
    let mut seen: BTreeMap<&Call, usize> = BTreeMap::new();
    let mut of_ledger = 0..;
    let mut points = Vec::new();
    for call in calls {
        let before = *seen.entry(call).and_modify(|seen| *seen += 1).or_insert(0);
        let (first, last) = (before == 0, before + 1 == times[call]);
        let is_thinned = match call.kind {
            Kind::Ledger => of_ledger.next().is_some_and(|number| number % LEDGER_STEP != 0),
            _ => !(last || first && call.by == Maker::Device),
        };
        if reach == Reach::Quick && (is_thinned || !flow.quick.contains(&call.kind)) {
            continue;
        }
        let victims: &[Victim] = match (call.by, reach) {
            (Maker::Daemon, _) => &[Victim::Daemon],
            (Maker::Device, Reach::All) => &[Victim::Daemon, Victim::DeviceProcess],
            (Maker::Device, Reach::Quick) if !last => &[Victim::DeviceProcess],
            (Maker::Device, Reach::Quick) => &[Victim::Daemon],
        };
        points.extend(victims.iter().map(|victim| Point { call: call.clone(), before, victim: *victim }));
    }
    points
}

/// vgpud under the tracer, from its start to its end by the point, or by SIGTERM after `work`.
fn run<T: Default>(daemon: &Daemon, point: Option<Point>, work: impl FnOnce(&Traced) -> T) -> (T, Trace) {
    let vgpud = Traced::start(&daemon.vgpud(), &places(daemon), point);
    let serves = wait_for("vgpud to serve under the tracer", LIMIT, || {
        if vgpud.is_dead() {
            Some(false)
        } else {
            UnixStream::connect(daemon.socket()).is_ok().then_some(true)
        }
    });
    let result = if serves { work(&vgpud) } else { T::default() };
    vgpud.signal(Signal::SIGTERM);
    wait_for("vgpud to end under the tracer", LIMIT, || vgpud.is_dead().then_some(()));
    (result, vgpud.trace())
}

/// The walked part of a flow.
fn walked(daemon: &Daemon, flow: Flow, interrupted: Option<&Point>, point: Option<Point>) -> (Life, Trace) {
    let live = |vgpud: &Traced| Life::live(daemon, vgpud, flow.place);
    let Some(interrupted) = interrupted else { return run(daemon, point, live) };
    let (life, trace) = run(daemon, Some(interrupted.clone()), live);
    assert!(trace.killed, "{interrupted:?} was not reached in {flow:?}: {life:?}");
    let ((), trace) = run(daemon, point, |vgpud| {
        wait_for("vgpud to be at rest under the tracer", LIMIT, || {
            let rests = owned::slices_if_it_lives(daemon).is_some_and(|slices| is_at_rest(&slices));
            (rests || vgpud.is_dead()).then_some(())
        });
    });
    (life, trace)
}

#[derive(Debug, Default)]
struct Walk {
    walked: usize,
    failed: usize,
    /// Points of the ledger that a run did without.
    missed: usize,
    kinds: BTreeMap<Kind, usize>,
}

impl Walk {
    /// Past libtest's capture: these figures are what the walk is made for.
    fn report(&self) {
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let (walked, failed, kinds) = (self.walked, self.failed, kinds.join(", "));
        let missed = match self.missed {
            0 => String::new(),
            missed => format!("; {missed} of the ledger were not reached again"),
        };
        let mut out = std::io::stderr();
        writeln!(out, "lab kill points: {walked} walked, {failed} failed ({kinds}{missed})").unwrap();
    }
}

/// The last of these calls in a whole life.
fn last(what: &str, life: &[Call]) -> Point {
    let alike: Vec<&Call> = life.iter().filter(|call| call.what == what).collect();
    let call = *alike.last().unwrap_or_else(|| panic!("{what:?} is not among {life:#?}"));
    Point { call: call.clone(), before: alike.len() - 1, victim: Victim::Daemon }
}

fn walk(reach: Reach) {
    let mut daemon = Daemon::start();
    let mut bystanders = [MI300X, MDEV].map(|place| Bystander::start(&daemon, place));
    bystanders.iter_mut().for_each(|bystander| bystander.wait_until_it_holds(&daemon));
    daemon.stop();

    let mut walk = Walk::default();
    let mut lives: BTreeMap<Place, Vec<Call>> = BTreeMap::new();
    for flow in FLOWS.into_iter().filter(|flow| reach == Reach::All || !flow.quick.is_empty()) {
        let interrupted = flow.after.map(|what| last(what, &lives[&flow.place]));
        let mut one = |point: Option<Point>| {
            let victim = point.as_ref().map(|point| point.victim);
            let (life, trace) = walked(&daemon, flow, interrupted.as_ref(), point);
            daemon.start_again();
            comes_back(&daemon, flow.place, &life, victim.filter(|_| trace.killed), &mut bystanders);
            daemon.kill();
            trace
        };
        let calls = one(None).calls;
        let points = points(flow, &calls, reach);
        // A long walk takes hours: who waits for it sees it go on. The harness keeps what eprintln prints.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "{} points of {flow:?}", points.len()).unwrap();
        for point in points {
            match catch_unwind(AssertUnwindSafe(|| one(Some(point.clone())).killed)) {
                Ok(false) if point.call.kind == Kind::Ledger => walk.missed += 1,
                Ok(killed) => {
                    assert!(killed, "{point:?} was not reached in {flow:?}");
                    walk.walked += 1;
                    *walk.kinds.entry(point.call.kind).or_default() += 1;
                }
                Err(failure) => {
                    walk.failed += 1;
                    println!("FAILED: {point:?} in {flow:?}");
                    walk.report();
                    resume_unwind(failure);
                }
            }
        }
        if flow.after.is_none() {
            lives.insert(flow.place, calls);
        }
    }
    walk.report();
    let wanted = [Kind::Sysfs, Kind::Vfio, Kind::Node, Kind::Cdi, Kind::Process, Kind::Ledger, Kind::Socket];
    assert!(walk.kinds.keys().copied().eq(wanted), "every kind is walked, and there is no other: {walk:?}");
    daemon.start_again();
    bystanders.into_iter().for_each(|bystander| bystander.end(&daemon));
    assert_nothing_left(&daemon);
}

/// What the walk stands on: the call that is killed at never happens, and the one before it has.
#[test]
fn the_tracer_kills_before_the_kernel_executes_a_call() {
    let folder = tempfile::tempdir_in("/run").unwrap();
    let at = |name: &str| folder.path().join(name);
    let places = Places { state: at("state"), socket: at("socket"), log: at("log") };
    let mut command = Command::new("sh");
    let [state, first, second] = ["state", "state/first", "state/second"].map(at);
    // The calls are of children, which end with their parent as device processes do.
    let script = "end=\"setpriv --pdeathsig KILL\"; $end mkdir $1; $end mkdir $2; $end mkdir $3; exit 0";
    command.args(["-c", script, "sh"]).args([&state, &first, &second]);
    let trace = |point: Option<Point>| {
        let traced = Traced::start(&command, &places, point);
        wait_for("the traced shell to end", LIMIT, || traced.is_dead().then_some(()));
        traced.trace()
    };
    let calls: Vec<Call> = trace(None).calls.into_iter().filter(|call| call.kind == Kind::Ledger).collect();
    let told: Vec<&str> = calls.iter().map(|call| call.what.as_str()).collect();
    assert_eq!(told, ["mkdir state", "mkdir first", "mkdir second"]);
    assert!(first.is_dir() && second.is_dir());

    for (victim, second_comes) in [(Victim::Daemon, false), (Victim::DeviceProcess, true)] {
        std::fs::remove_dir_all(&state).unwrap();
        let point = Point { call: calls[1].clone(), before: 0, victim };
        assert!(trace(Some(point)).killed);
        assert_eq!(
            (state.is_dir(), first.is_dir(), second.is_dir()),
            (true, false, second_comes),
            "{victim:?}"
        );
    }
}

/// Each call of every kind, on one GPU or more, the last time that it is made, those of device processes the first
/// time too, and every 24th of the ledger's.
#[test]
fn a_vgpud_that_dies_at_calls_of_every_kind_loses_and_leaks_nothing() {
    walk(Reach::Quick);
}

#[test]
#[ignore = "long: `./x test --long` walks every call of every flow"]
fn a_vgpud_that_dies_at_any_call_loses_and_leaks_nothing() {
    walk(Reach::All);
}
