//! The life of one slice, driven until vgpud dies, and what has to be so after the next start.

use super::{
    owned::{assert_owned, is_at_rest, slices},
    support::{Daemon, Model, Running, SimGpu, wait_for},
    tracer::{Traced, Victim},
};
use serde_json::Value;
use std::time::Duration;

/// For anything that vgpud does by itself, under emulation and on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// How a slice is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub model: Model,
    pub profile: &'static str,
}

/// How far one thing that was asked of vgpud has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    NotAsked,
    /// And not answered, or answered with an error.
    Asked,
    Done,
}

/// What the user of a slice knows of it.
#[derive(Debug, Default)]
pub struct Life {
    create: Step,
    release: Step,
    destroy: Step,
}

impl Life {
    /// Creates a slice with an owner, takes it back and destroys it: until an answer is an error,
    /// which is vgpud's death or that of its device process.
    pub fn live(daemon: &Daemon, vgpud: &Traced, place: Place) -> Self {
        let mut life = Self::default();
        let ask = |words: &str| !vgpud.is_dead() && daemon.ctl(words).code == 0;
        let gpu = SimGpu::find(place.model).address;
        life.create = Step::Asked;
        let created =
            daemon.ctl(&format!("--output json create {} --gpu {gpu} --owner tenant", place.profile));
        if created.code != 0 {
            return life;
        }
        life.create = Step::Done;
        let created: Value = serde_json::from_str(&created.stdout).unwrap();
        let id = created["slices"][0]["id"].as_str().unwrap();
        life.release = Step::Asked;
        if !ask(&format!("release {id}")) {
            return life;
        }
        life.release = Step::Done;
        life.destroy = Step::Asked;
        if ask(&format!("destroy {id}")) {
            life.destroy = Step::Done;
        }
        life
    }

    /// The phases that its slice may be in when vgpud has started again and is at rest; `None` is
    /// that there is no slice.
    fn may_be(&self, victim: Option<Victim>) -> &'static [Option<&'static str>] {
        let scrub_died = victim == Some(Victim::DeviceProcess);
        match (self.create, self.release, self.destroy) {
            (Step::NotAsked, ..) | (.., Step::Done) => &[None],
            // Its caller heard that it failed.
            (Step::Asked, ..) if scrub_died => &[None],
            (Step::Asked, ..) => &[None, Some("leased")],
            (Step::Done, Step::NotAsked, _) => &[Some("leased")],
            // A scrub that died has shown nothing.
            (Step::Done, Step::Asked, _) if scrub_died => &[Some("quarantined")],
            (Step::Done, Step::Asked, _) => &[Some("leased"), Some("ready")],
            (Step::Done, Step::Done, Step::NotAsked) => &[Some("ready")],
            (Step::Done, Step::Done, Step::Asked) => &[Some("ready"), None],
        }
    }
}

/// A slice that a running micro-VM uses, and that all the deaths must not disturb.
#[derive(Debug)]
pub struct Bystander {
    pub id: String,
    gpu: SimGpu,
    slice: Value,
    vm: Running,
}

/// What the guest writes into its memory.
const MARK: &str = "undisturbed";

impl Bystander {
    pub fn start(daemon: &Daemon, place: Place) -> Self {
        let gpu = SimGpu::find(place.model);
        let id = daemon.create(&format!("{} --gpu {}", place.profile, gpu.address)).remove(0);
        let vm = daemon.run(&format!("{id} --owner bystander -- gpu list write {MARK} hold 36000"));
        Self { id, gpu, slice: Value::Null, vm }
    }

    pub fn wait_until_it_holds(&mut self, daemon: &Daemon) {
        self.vm.wait_for("holding");
        self.slice = daemon.slice(&self.id);
    }

    #[track_caller]
    fn assert_undisturbed(&mut self, slices: &[Value]) {
        assert!(self.vm.is_running(), "the micro-VM of {} has ended", self.id);
        assert!(slices.contains(&self.slice), "{:#} is no longer so in {slices:#?}", self.slice);
        assert_eq!(self.gpu.texts(&self.slice), [MARK], "the memory of {}", self.id);
    }

    pub fn end(self, daemon: &Daemon) {
        self.vm.signal("TERM");
        self.vm.wait();
        daemon.wait_for_phase(&self.id, "ready", LIMIT);
        daemon.ok(&format!("destroy {}", self.id));
    }
}

/// vgpud has started again after a death in this life: all is as it has to be, and what was under way
/// can be asked for again and be ended.
pub fn comes_back(
    daemon: &Daemon,
    place: Place,
    life: &Life,
    victim: Option<Victim>,
    bystanders: &mut [Bystander],
) {
    let at_rest = || {
        wait_for("vgpud to be at rest", LIMIT, || {
            let slices = slices(daemon);
            is_at_rest(&slices).then_some(slices)
        })
    };
    let found = at_rest();
    assert_owned(daemon, &found);
    bystanders.iter_mut().for_each(|bystander| bystander.assert_undisturbed(&found));
    let is_own = |slice: &&Value| !bystanders.iter().any(|other| other.id == slice["id"].as_str().unwrap());
    let own: Vec<&Value> = found.iter().filter(is_own).collect();
    assert!(own.len() <= 1, "one slice was asked for: {own:#?}");
    let phase = own.first().map(|slice| slice["phase"].as_str().unwrap());
    assert!(life.may_be(victim).contains(&phase), "{phase:?} after {life:?}: {own:#?}");
    let id = match own.first() {
        Some(slice) => slice["id"].as_str().unwrap().to_owned(),
        None => {
            let gpu = SimGpu::find(place.model).address;
            daemon.create(&format!("{} --gpu {gpu} --owner tenant-2", place.profile)).remove(0)
        }
    };
    if phase == Some("quarantined") {
        daemon.ok(&format!("quarantine clear {id}"));
        assert_eq!(daemon.phase(&id), "ready");
    }
    daemon.ok(&format!("destroy --release {id}"));
    let left = at_rest();
    // What else is left the next point finds.
    assert_eq!(left.len(), bystanders.len(), "{left:#?}");
}
