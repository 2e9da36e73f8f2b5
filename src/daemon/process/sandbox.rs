//! The sandbox of the real program, tried from inside of it: a running vgpud is made to do what it must
//! not, by ptrace.

use crate::process::{Home, Vgpud, wait_for};
use std::io::Write as _;
use vgpud_lab::trespass::{self, Report, Scene};

/// IPC_LOCK, FOWNER, DAC_OVERRIDE and CHOWN, by their numbers in capabilities(7).
const DAEMON: u64 = 1 << 14 | 1 << 3 | 1 << 1 | 1;
/// SYS_ADMIN, SYS_PTRACE and DAC_READ_SEARCH.
const LOOKOUT: u64 = 1 << 21 | 1 << 19 | 1 << 2;

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        vgpud_mdev::fake::skip("only root has rights to give up");
    }
    root
}

fn lookout(daemon: &Vgpud) -> u32 {
    // It takes its name by itself, while vgpud may serve already.
    wait_for("the lookout to take its name", || trespass::child(daemon.pid(), "vgpud-lookout"))
}

#[test]
fn every_thread_and_process_has_given_up_its_rights() {
    if !root() {
        return;
    }
    let home = Home::new();
    let daemon = home.start();
    let none: [&str; 0] = [];
    for thread in trespass::threads(daemon.pid()).unwrap() {
        assert_eq!(trespass::excess(thread, DAEMON, DAEMON).unwrap(), none);
    }
    // So with its walls.
    let lookout = lookout(&daemon);
    wait_for("the lookout to give up its rights", || {
        trespass::excess(lookout, LOOKOUT, LOOKOUT).unwrap().is_empty().then_some(())
    });
}

#[test]
fn it_ends_with_its_lookout_and_says_so() {
    if !root() {
        return;
    }
    let home = Home::new();
    let daemon = home.start();
    let pid = lookout(&daemon).to_string();
    assert!(std::process::Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap().success());
    assert_eq!(daemon.ended().code(), Some(2));
    assert!(home.log().contains("vgpud-lookout has ended"), "{}", home.log());
    drop(daemon);
    let daemon = home.start();
    assert_eq!(home.status().pid, daemon.pid());
}

#[test]
fn what_it_must_not_do_is_not_let_through() {
    if !root() {
        return;
    }
    let home = Home::new();
    let mut scene = Scene::set(home.folder()).unwrap();
    let mut daemon = home.start();
    let said = home.status().sandbox.unwrap();
    let landlock = trespass::landlock(&said).unwrap_or(0);
    if landlock == 0 {
        vgpud_mdev::fake::skip(format_args!("the part of Landlock: {said}"));
    }
    let ground = scene.ground(&home.state_dir(), landlock);
    let mut report = Report::default();

    let broken = trespass::survived(daemon.pid(), &ground, &mut report).unwrap();
    assert!(broken.is_empty(), "what it needs: {broken:?}");
    assert_eq!(home.status().pid, daemon.pid(), "it goes on as if nothing had been");
    trespass::lookout(lookout(&daemon), &ground, &mut report).unwrap();
    drop(daemon);
    daemon = home.start();
    for attempt in trespass::deadly_attempts(&ground) {
        trespass::try_one(daemon.pid(), &attempt, &mut report).unwrap();
        drop(daemon);
        daemon = home.start();
    }
    // Past libtest, which keeps what a passed test prints.
    writeln!(std::io::stderr(), "{report}").unwrap();
    assert!(report.let_through.is_empty(), "{:#?}", report.let_through);
    assert!(landlock == 0 || report.tried > 80, "{report}");
    let none: [&str; 0] = [];
    assert_eq!(scene.harm().unwrap(), none);
}

#[test]
fn the_settings_turn_it_off_and_that_is_told() {
    let home = Home::new();
    home.write_settings("[daemon]\nsandbox = \"off\"\n");
    let daemon = home.start();
    assert_eq!(home.status().sandbox.unwrap(), "off, by the settings");
    assert!(home.log().contains("no sandbox, by the settings"), "{}", home.log());
    let of = |process| trespass::status(process, "NoNewPrivs").unwrap();
    assert_eq!(of(daemon.pid()), of(std::process::id()));
}
