use super::*;
use crate::micro_vm::tests::Tree;

impl Tree {
    /// Starts it, and waits until it says that it is ready.
    fn start(&self) -> RunningVm {
        let (tell, told) = mpsc::channel();
        let console = move |piece: &[u8]| drop(tell.send(piece.to_vec()));
        let vm = self.vm.spawn(&self.host, console).unwrap();
        assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), b"ready\n");
        vm
    }
}

#[test]
fn the_console_is_streamed_and_a_power_off_is_success() {
    let (console, outcome) = Tree::new("poweroff").run();
    assert_eq!((console.as_str(), outcome), ("hello\nfrom the guest", Outcome::PoweredOff));
}

#[test]
fn qemu_gets_exactly_the_command_line() {
    let tree = Tree::new("s17");
    let (console, outcome) = tree.run();
    let wanted: Vec<_> =
        tree.vm.command_line()[1..].iter().map(|word| word.to_str().unwrap().to_owned()).collect();
    assert_eq!(console.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(outcome, Outcome::PoweredOff);
}

#[test]
fn the_guests_exit_code_comes_through() {
    assert_eq!(Tree::new("exit-5").run().1, Outcome::GuestExit(5));
}

#[test]
fn a_failure_quotes_qemu() {
    let outcome = Tree::new("fails").run().1;
    let words = "qemu-system-x86_64: -device vfio-pci: vfio 0000:41:02.0: no such host device";
    assert_eq!(outcome, Outcome::Failed { code: 1, stderr: words.into() });
    assert_eq!(outcome.to_string(), format!("QEMU failed with exit code 1: {words}"));
}

#[test]
fn a_panic_and_a_kill_are_told_apart_from_a_power_off() {
    let line = "Kernel panic - not syncing: No working init found.".to_owned();
    assert_eq!(Tree::new("panics").run().1, Outcome::GuestPanic { line });
    assert_eq!(Tree::new("killed").run().1, Outcome::Killed { signal: 9 });
}

#[test]
fn waiting_with_a_deadline_leaves_it_running_and_stopping_ends_it() {
    let vm = Tree::new("obeys").start();
    assert_eq!(vm.wait(Some(Duration::ZERO)).unwrap(), None);
    assert_eq!(vm.stop(Duration::from_secs(60)).unwrap(), Outcome::Stopped);
    assert_eq!(vm.stop(Duration::ZERO).unwrap(), Outcome::Stopped);
    assert_eq!(vm.wait(None).unwrap(), Some(Outcome::Stopped));
}

#[test]
fn one_thread_waits_while_another_stops() {
    let vm = Tree::new("obeys").start();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| vm.wait(None).unwrap());
        vm.stop(Duration::from_secs(60)).unwrap();
        assert_eq!(waiter.join().unwrap(), Some(Outcome::Stopped));
    });
}

#[test]
fn one_that_does_not_listen_is_killed_once_it_has_started() {
    let mut vm = Tree::new("stubborn").start();
    vm.starting = Duration::ZERO;
    assert_eq!(vm.stop(Duration::ZERO).unwrap(), Outcome::Stopped);
}

#[test]
fn a_signal_from_somebody_else_is_no_stop() {
    let vm = Tree::new("obeys").start();
    kill(process(vm.pid()), Signal::SIGTERM).unwrap();
    assert_eq!(vm.wait(None).unwrap(), Some(Outcome::Killed { signal: 15 }));
}

#[test]
fn dropping_the_handle_ends_qemu() {
    let vm = Tree::new("obeys").start();
    let shared = Arc::clone(&vm.shared);
    drop(vm);
    let running = |state: &mut State| matches!(state, State::Running(_));
    let state = shared.ended.wait_while(shared.lock(), running).unwrap();
    assert!(matches!(&*state, State::Ended(Ok(Outcome::Stopped))), "{state:?}");
}

#[test]
fn qemu_may_lock_as_much_as_the_hard_limit_allows() {
    let (console, _) = Tree::new("limits").run();
    let limits: Vec<_> = console.lines().collect();
    assert_eq!(limits.len(), 2, "{console}");
    assert_eq!(limits[0], limits[1]);
}

#[test]
fn nothing_starts_where_the_check_fails() {
    let mut tree = Tree::new("poweroff");
    tree.vm.kernel = "/nowhere".into();
    let error = tree.vm.spawn(&tree.host, |_| {}).unwrap_err();
    assert!(matches!(error, Error::Vm(VmError::GuestFile { what: "kernel", .. })), "{error}");
}
