use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A host whose /proc is ours to write.
struct Tree {
    dir: TempDir,
    host: Host,
    nodes: VfioNodes,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path());
        for folder in ["proc/self", "dev/vfio/devices"] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        let group = host.path("/dev/vfio/12");
        let cdev = host.path("/dev/vfio/devices/vfio3");
        for node in [&group, &cdev] {
            File::create(node).unwrap();
        }
        Self { dir, host, nodes: VfioNodes { group: Some(group), cdev: Some(cdev) } }
    }

    fn process(&self, pid: u32, program: &str, open: &[&Path]) -> PathBuf {
        let proc = self.host.path(format!("/proc/{pid}"));
        fs::create_dir_all(proc.join("fd")).unwrap();
        fs::write(proc.join("comm"), format!("{program}\n")).unwrap();
        for (fd, path) in open.iter().enumerate() {
            symlink(path, proc.join("fd").join(fd.to_string())).unwrap();
        }
        proc
    }
}

fn message(result: Result<(), Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_device_that_nobody_has_open_is_free() {
    let tree = Tree::new();
    tree.process(1, "init", &[tree.dir.path()]);
    assert_eq!(holders(&tree.host, &tree.nodes).unwrap(), []);
    prove_free(&tree.host, &tree.host, &tree.nodes).unwrap();
    wait_free(&tree.host, &tree.nodes, Duration::ZERO).unwrap();
}

#[test]
fn holders_of_group_and_cdev_are_named_in_order() {
    let tree = Tree::new();
    let (group, cdev) = (tree.nodes.group.clone().unwrap(), tree.nodes.cdev.clone().unwrap());
    tree.process(900, "cloud-hyperviso", &[tree.dir.path(), &cdev]);
    tree.process(31, "qemu-system-x86", &[&group]);
    tree.process(32, "other", &[&tree.host.path("/dev/vfio/13")]);
    let message = message(prove_free(&tree.host, &tree.host, &tree.nodes));
    let expected = "is held by process 31 (qemu-system-x86), process 900 (cloud-hyperviso); end it, and the device is free";
    assert!(message.ends_with(expected), "{message}");
    assert!(message.starts_with(group.to_str().unwrap()), "{message}");
}

#[test]
fn a_handle_under_another_name_counts() {
    let tree = Tree::new();
    let other = tree.host.path("/dev/renamed");
    fs::hard_link(tree.nodes.group.as_ref().unwrap(), &other).unwrap();
    tree.process(7, "vmm", &[&other]);
    let found = holders(&tree.host, &tree.nodes).unwrap();
    assert_eq!(found, [Holder { pid: 7, program: "vmm".into() }]);
}

#[test]
fn waiting_gives_up_and_names_the_holder() {
    let tree = Tree::new();
    tree.process(7, "vmm", &[tree.nodes.group.as_ref().unwrap()]);
    let error = wait_free(&tree.host, &tree.nodes, Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "Waited 0 s for every process to close the device; it stays taken");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("process 7 (vmm)"), "{cause}");
}

#[test]
fn waiting_ends_when_the_holder_ends() {
    let tree = Tree::new();
    let proc = tree.process(7, "vmm", &[tree.nodes.group.as_ref().unwrap()]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_free(&tree.host, &tree.nodes, Duration::from_secs(60)));
        fs::remove_dir_all(proc).unwrap();
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn a_vanished_node_and_no_node_are_errors_of_their_own() {
    let tree = Tree::new();
    fs::remove_file(tree.nodes.group.as_ref().unwrap()).unwrap();
    assert!(matches!(
        prove_free(&tree.host, &tree.host, &tree.nodes),
        Err(Error::Hold(HoldError::Vanished { node })) if Some(&node) == tree.nodes.group.as_ref()
    ));
    assert!(matches!(
        prove_free(&tree.host, &tree.host, &VfioNodes::default()),
        Err(Error::Hold(HoldError::NoNode))
    ));
}

#[test]
fn a_trial_alone_says_nothing_of_processes() {
    let busy = Trial { node: "/dev/vfio/12".into(), source: Errno::EBUSY.into() };
    let told = crate::preflight::chain(&busy);
    assert!(told.starts_with("/dev/vfio/12 does not open for one alone: Device or resource busy"), "{told}");
    let tree = Tree::new();
    opens_alone(&tree.host, &tree.nodes).unwrap();
    fs::remove_file(tree.nodes.group.as_ref().unwrap()).unwrap();
    assert_eq!(opens_alone(&tree.host, &tree.nodes).unwrap_err().source.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_planted_link_is_not_opened() {
    let tree = Tree::new();
    let group = tree.nodes.group.clone().unwrap();
    fs::remove_file(&group).unwrap();
    symlink(tree.nodes.cdev.as_ref().unwrap(), &group).unwrap();
    let nodes = VfioNodes { group: Some(group), cdev: None };
    assert!(matches!(prove_free(&tree.host, &tree.host, &nodes), Err(Error::Hold(HoldError::Trial { .. }))));
}

#[test]
fn a_process_that_may_not_be_looked_into_is_no_proof() {
    let tree = Tree::new();
    let proc = tree.process(7, "vmm", &[]);
    fs::remove_dir(proc.join("fd")).unwrap();
    fs::write(proc.join("fd"), "").unwrap(); // ENOTDIR: neither ended nor readable
    assert!(matches!(
        prove_free(&tree.host, &tree.host, &tree.nodes),
        Err(Error::Hold(HoldError::Proc { .. }))
    ));
    fs::remove_dir_all(tree.host.path("/proc")).unwrap();
    assert!(matches!(
        prove_free(&tree.host, &tree.host, &tree.nodes),
        Err(Error::Hold(HoldError::Proc { .. }))
    ));
}

#[test]
fn this_process_is_found_in_the_real_proc_by_device_number() {
    let host = Host::default();
    let nodes = VfioNodes { group: Some("/dev/full".into()), cdev: None };
    let _open = File::open("/dev/full").unwrap();
    match holders(&host, &nodes) {
        Ok(found) => assert!(found.iter().any(|holder| holder.pid == std::process::id()), "{found:?}"),
        // Without root, other people's processes cannot be looked into.
        Err(Error::Hold(HoldError::Proc { source, .. })) => {
            assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
        }
        Err(error) => panic!("{error}"),
    }
}

/// A mount that nobody serves: its owner alone could look into it, and root cannot.
#[test]
fn a_users_own_file_system_keeps_nothing_from_being_proved_free() {
    use nix::{
        mount::{MntFlags, MsFlags, mount, umount2},
        sched::{CloneFlags, unshare},
    };
    let work = || {
        let fuse = File::options().read(true).write(true).open("/dev/fuse");
        let (Ok(fuse), Ok(())) = (fuse, unshare(CloneFlags::CLONE_NEWNS)) else {
            vgpud_mdev::fake::skip("no FUSE of its own may be mounted here");
            return;
        };
        let at = tempfile::tempdir().unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&fuse);
        let options = format!("fd={fd},rootmode=40000,user_id=65534,group_id=65534");
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        mount(Some("vgpud-test"), at.path(), Some("fuse"), flags, Some(options.as_str())).unwrap();
        let open = File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(at.path()).unwrap();
        let fds = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
        let fd = fds.join(std::os::fd::AsRawFd::as_raw_fd(&open).to_string());
        assert_eq!(fs::metadata(&fd).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(!holds(&fds, &[Identity::Device(u64::MAX)]).unwrap());
        drop(open);
        umount2(at.path(), MntFlags::MNT_DETACH).unwrap();
    };
    // The mounts are the thread's own.
    std::thread::spawn(work).join().unwrap();
}

#[test]
fn other_files_that_cannot_be_looked_at_are_no_proof() {
    let error = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
    let here = Path::new("/proc/self/exe");
    assert!(is_no_node(here, &error(Errno::ESTALE)));
    assert!(!is_no_node(here, &error(Errno::EACCES)) && !is_no_node(here, &error(Errno::EIO)));
}
