//! What vgpud's sandbox forbids, to be tried from inside of it.

use super::{Argument, Outcome};
use nix::{errno::Errno, libc as c, sys::signal::Signal};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// A forbidden call, and the kernel's answer where the wall stands.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub what: String,
    pub call: i64,
    pub arguments: Vec<Argument>,
    pub expected: Expected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Error(Errno),
    /// The process is ended for it.
    Death,
}

impl Expected {
    /// Whether the wall held as it should.
    #[must_use]
    pub fn is(self, outcome: Outcome) -> bool {
        match self {
            Self::Error(errno) => outcome == Outcome::Failed(errno),
            Self::Death => outcome == Outcome::Killed(Signal::SIGSYS),
        }
    }
}

/// What the attempts need to be there.
#[derive(Clone, Debug)]
pub struct Ground {
    /// A folder that the daemon has no business in, with a file `secret` in it.
    pub outside: PathBuf,
    /// The daemon's state folder.
    pub state: PathBuf,
    /// A process of root that is none of the daemon's.
    pub bystander: u32,
    /// Name of an abstract socket that such a process listens at.
    pub listener: Vec<u8>,
    /// Landlock's ABI; 0 where the kernel has none.
    pub landlock: i32,
    /// A Unix socket that the daemon has open and that is not connected.
    pub unix_socket: Option<i32>,
}

fn attempt(what: impl Into<String>, call: i64, expected: Expected, arguments: Vec<Argument>) -> Attempt {
    Attempt { what: what.into(), call, arguments, expected }
}

fn path(path: impl AsRef<Path>) -> Argument {
    Argument::text(path.as_ref())
}

fn numbers(numbers: &[i64]) -> Vec<Argument> {
    numbers.iter().copied().map(Argument::Number).collect()
}

fn opening(what: &str, file: impl AsRef<Path>, flags: i32, error: Errno) -> Attempt {
    let what = format!("{what} {}", file.as_ref().display());
    let arguments = vec![c::AT_FDCWD.into(), path(file), flags.into(), 0o600.into()];
    attempt(what, c::SYS_openat, Expected::Error(error), arguments)
}

/// What the daemon must not do. Those that end it come last.
#[must_use]
pub fn attempts(ground: &Ground) -> Vec<Attempt> {
    let mut all = Vec::new();
    if ground.landlock > 0 {
        all.extend(files(ground));
    }
    if ground.landlock >= 6 {
        all.extend(scopes(ground));
    }
    all.extend(others(ground));
    all.extend(refused(ground));
    all.extend(deadly());
    all
}

/// Landlock.
fn files(ground: &Ground) -> Vec<Attempt> {
    let (out, secret, new) = (&ground.outside, ground.outside.join("secret"), ground.outside.join("new"));
    let denied = Expected::Error(Errno::EACCES);
    let at = || Argument::from(c::AT_FDCWD);
    let moved = vec![at(), path(ground.state.join("ledger.db")), at(), path(&new)];
    let null = || Argument::Number(0);
    let mut all = vec![
        opening("make", &new, c::O_WRONLY | c::O_CREAT, Errno::EACCES),
        opening("write", &secret, c::O_WRONLY, Errno::EACCES),
        opening("read", &secret, c::O_RDONLY, Errno::EACCES),
        opening("list", out, c::O_RDONLY | c::O_DIRECTORY, Errno::EACCES),
        opening("list", "/root", c::O_RDONLY | c::O_DIRECTORY, Errno::EACCES),
        opening("write", "/etc/passwd", c::O_WRONLY, Errno::EACCES),
        opening("make", "/etc/cron.d/vgpud", c::O_WRONLY | c::O_CREAT, Errno::EACCES),
        opening("write", "/proc/sys/kernel/core_pattern", c::O_WRONLY, Errno::EACCES),
        opening("write", "/dev/kmsg", c::O_WRONLY, Errno::EACCES),
        opening("read", "/dev/kmsg", c::O_RDONLY, Errno::EACCES),
        attempt("remove a file", c::SYS_unlinkat, denied, vec![at(), path(&secret), 0.into()]),
        attempt("make a folder", c::SYS_mkdirat, denied, vec![at(), path(&new), 0o755.into()]),
        attempt("run /bin/true", c::SYS_execve, denied, vec![path("/bin/true"), null(), null()]),
        attempt("run /bin/sh", c::SYS_execve, denied, vec![path("/bin/sh"), null(), null()]),
        attempt("move the ledger away", c::SYS_renameat2, denied, moved),
    ];
    let system = [
        "/proc/sysrq-trigger",
        "/sys/devices/system/cpu/uevent",
        "/sys/kernel/rcu_expedited",
        "/sys/module/kernel/uevent",
    ];
    let there = system.into_iter().filter(|file| Path::new(file).try_exists().unwrap_or(true));
    all.extend(there.map(|file| opening("write", file, c::O_WRONLY, Errno::EACCES)));
    all
}

/// Landlock from ABI 6 on.
fn scopes(ground: &Ground) -> Vec<Attempt> {
    let bystander = i64::from(ground.bystander);
    let refused = Expected::Error(Errno::EPERM);
    let mut all = vec![
        attempt("signal a process", c::SYS_kill, refused, numbers(&[bystander, 0])),
        attempt("kill a process", c::SYS_kill, refused, numbers(&[bystander, 9])),
    ];
    if let Some(socket) = ground.unix_socket {
        let mut address = u16::try_from(c::AF_UNIX).unwrap_or_default().to_ne_bytes().to_vec();
        address.push(0);
        address.extend(&ground.listener);
        let length = i64::try_from(address.len()).unwrap_or_default();
        let arguments = vec![socket.into(), Argument::Bytes(address), length.into()];
        all.push(attempt("connect to an abstract socket", c::SYS_connect, refused, arguments));
    }
    all
}

/// Other processes, by capabilities and Landlock.
fn others(ground: &Ground) -> Vec<Attempt> {
    let of = |file: &str| PathBuf::from(format!("/proc/{}/{file}", ground.bystander));
    let mut all = vec![attempt(
        "raise capabilities",
        c::SYS_capset,
        Expected::Error(Errno::EPERM),
        vec![
            // struct __user_cap_header_struct of version 3, and both words of three full sets.
            Argument::Bytes([0x2008_0522_u32.to_ne_bytes(), [0; 4]].concat()),
            Argument::Bytes(vec![0xff; 24]),
        ],
    )];
    all.push(attempt(
        "raise an ambient capability",
        c::SYS_prctl,
        Expected::Error(Errno::EPERM),
        numbers(&[47, 2, 16, 0, 0]), // PR_CAP_AMBIENT, RAISE, CAP_SYS_MODULE
    ));
    all.push(attempt(
        "take back no_new_privs",
        c::SYS_prctl,
        Expected::Error(Errno::EINVAL),
        numbers(&[c::PR_SET_NO_NEW_PRIVS.into(), 0, 0, 0, 0]),
    ));
    if ground.landlock > 0 {
        all.push(opening("write", of("mem"), c::O_RDWR, Errno::EACCES));
        all.push(opening("read", of("environ"), c::O_RDONLY, Errno::EACCES));
        let buffer = Argument::Bytes(vec![0; 64]);
        let arguments = vec![c::AT_FDCWD.into(), path(of("fd/0")), buffer, 64.into()];
        let denied = Expected::Error(Errno::EACCES);
        all.push(attempt("see what a process has open", c::SYS_readlinkat, denied, arguments));
    }
    all
}

/// Seccomp: answers an error.
fn refused(ground: &Ground) -> Vec<Attempt> {
    let (refused, unknown) = (Expected::Error(Errno::EPERM), Expected::Error(Errno::ENOSYS));
    let by = |what: &str, call, arguments: &[i64]| attempt(what, call, refused, numbers(arguments));
    let text = |text: &str| Argument::text(OsStr::new(text));
    let ledger = || path(ground.state.join("ledger.db"));
    let at = || Argument::from(c::AT_FDCWD);
    let (read, write, execute) = (c::PROT_READ, c::PROT_WRITE, c::PROT_EXEC);
    let private = c::MAP_PRIVATE | c::MAP_ANONYMOUS;
    let mut all = vec![
        by("become another user", c::SYS_setuid, &[65_534]),
        by("become another user", c::SYS_setresuid, &[65_534, 65_534, 65_534]),
        by("join a group", c::SYS_setgid, &[6]),
        by("join groups", c::SYS_setgroups, &[0, 0]),
        by("limit another process", c::SYS_prlimit64, &[ground.bystander.into(), c::RLIMIT_CPU.into(), 0, 0]),
        by("signal a thread by its number alone", c::SYS_tkill, &[ground.bystander.into(), 9]),
        by("ask for a keyring", c::SYS_keyctl, &[0, -3, 1]),
        by("make an io_uring", c::SYS_io_uring_setup, &[8, 0]),
        by(
            "map memory to write and run",
            c::SYS_mmap,
            &[0, 4096, (read | write | execute).into(), private.into(), -1, 0],
        ),
        by(
            "make a user namespace by clone",
            c::SYS_clone,
            &[(c::CLONE_NEWUSER | c::SIGCHLD).into(), 0, 0, 0, 0],
        ),
        by(
            "make a mount namespace by clone",
            c::SYS_clone,
            &[(c::CLONE_NEWNS | c::SIGCHLD).into(), 0, 0, 0, 0],
        ),
        by("type into a terminal", c::SYS_ioctl, &[0, 0x5412, 0]),
        attempt("make code that can be run", c::SYS_memfd_create, refused, vec![text("x"), 0.into()]),
        attempt(
            "run what has no name",
            c::SYS_execveat,
            refused,
            vec![0.into(), text(""), 0.into(), 0.into(), c::AT_EMPTY_PATH.into()],
        ),
        attempt(
            "make a node of a disk",
            c::SYS_mknodat,
            refused,
            vec![at(), path(ground.state.join("disk")), 0o60_600.into(), 0x800.into()],
        ),
        attempt(
            "plant a link",
            c::SYS_symlinkat,
            refused,
            vec![text("/etc/shadow"), at(), path(ground.state.join("link"))],
        ),
        attempt("make a program of root's", c::SYS_fchmodat, refused, vec![at(), ledger(), 0o4755.into()]),
        attempt(
            "make a program of root's as it is made",
            c::SYS_openat,
            refused,
            vec![at(), path(ground.state.join("program")), (c::O_CREAT | c::O_WRONLY).into(), 0o4755.into()],
        ),
        attempt("clone with flags that nobody sees", c::SYS_clone3, unknown, numbers(&[0, 88])),
        attempt("open with flags that nobody sees", c::SYS_openat2, unknown, numbers(&[0, 0, 0, 24])),
        attempt("call what nobody knows yet", 999, unknown, vec![]),
    ];
    for (family, kind, what) in [
        (c::AF_INET, c::SOCK_STREAM, "TCP"),
        (c::AF_INET6, c::SOCK_DGRAM, "UDP"),
        (c::AF_NETLINK, c::SOCK_RAW, "netlink"),
        (c::AF_PACKET, c::SOCK_RAW, "packets"),
        (c::AF_VSOCK, c::SOCK_STREAM, "VMs"),
    ] {
        all.push(by(&format!("make a socket for {what}"), c::SYS_socket, &[family.into(), kind.into(), 0]));
    }
    all
}

/// Seccomp: ends the process.
fn deadly() -> Vec<Attempt> {
    let calls = [
        ("trace a process", c::SYS_ptrace),
        ("write another process's memory", c::SYS_process_vm_writev),
        ("take a descriptor of another process", c::SYS_pidfd_getfd),
        ("mount", c::SYS_mount),
        ("mount the newer way", c::SYS_fsopen),
        ("unmount", c::SYS_umount2),
        ("change the root", c::SYS_chroot),
        ("pivot the root", c::SYS_pivot_root),
        ("leave its namespaces", c::SYS_unshare),
        ("enter namespaces", c::SYS_setns),
        ("open by handle, past all folders", c::SYS_open_by_handle_at),
        ("load a kernel module", c::SYS_init_module),
        ("load a kernel module from a file", c::SYS_finit_module),
        ("start another kernel", c::SYS_kexec_load),
        ("reboot", c::SYS_reboot),
        ("swap", c::SYS_swapon),
        ("load BPF", c::SYS_bpf),
        ("watch performance events", c::SYS_perf_event_open),
        ("handle page faults", c::SYS_userfaultfd),
        ("set the clock", c::SYS_clock_settime),
        ("reach I/O ports", c::SYS_iopl),
    ];
    calls.map(|(what, call)| attempt(what, call, Expected::Death, numbers(&[0; 6]))).into()
}

/// What the process must not do that sees into all others.
#[must_use]
pub fn lookout_attempts(ground: &Ground) -> Vec<Attempt> {
    let refused = Expected::Error(Errno::EPERM);
    let unknown = Expected::Error(Errno::ENOSYS);
    let at = || Argument::from(c::AT_FDCWD);
    let secret = ground.outside.join("secret");
    let memory = format!("/proc/{}/mem", ground.bystander);
    let bystander = i64::from(ground.bystander);
    vec![
        opening("write", &secret, c::O_WRONLY, Errno::EPERM),
        opening("write", &secret, c::O_RDWR, Errno::EPERM),
        opening("cut", &secret, c::O_RDONLY | c::O_TRUNC, Errno::EPERM),
        opening("make", ground.outside.join("new"), c::O_RDONLY | c::O_CREAT, Errno::EPERM),
        opening("write", memory, c::O_RDWR, Errno::EPERM),
        attempt("remove a file", c::SYS_unlinkat, unknown, vec![at(), path(&secret), 0.into()]),
        attempt("change a mode", c::SYS_fchmodat, unknown, vec![at(), path(&secret), 0o666.into()]),
        attempt("run /bin/true", c::SYS_execve, unknown, vec![path("/bin/true"), 0.into(), 0.into()]),
        attempt("make a socket", c::SYS_socket, refused, numbers(&[c::AF_INET.into(), 1, 0])),
        attempt("connect", c::SYS_connect, unknown, numbers(&[0, 0, 0])),
        attempt("kill a process", c::SYS_kill, unknown, numbers(&[bystander, 9])),
        attempt("kill a thread", c::SYS_tgkill, refused, numbers(&[bystander, bystander, 9])),
        attempt("kill a thread by its number alone", c::SYS_tkill, refused, numbers(&[bystander, 9])),
        attempt("let a file signal a process", c::SYS_fcntl, refused, numbers(&[0, 8, bystander])), // F_SETOWN
        attempt("choose that signal", c::SYS_fcntl, refused, numbers(&[0, 10, 9])), // F_SETSIG
        attempt("let a file signal a thread", c::SYS_fcntl, refused, numbers(&[0, 15, 0])), // F_SETOWN_EX
        attempt(
            "limit a process",
            c::SYS_prlimit64,
            refused,
            numbers(&[bystander, c::RLIMIT_CPU.into(), 0, 0]),
        ),
        attempt("become another user", c::SYS_setuid, refused, numbers(&[65_534])),
        attempt("trace a process", c::SYS_ptrace, Expected::Death, numbers(&[0; 4])),
    ]
}
