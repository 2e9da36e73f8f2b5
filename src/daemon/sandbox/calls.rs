//! System calls, by seccomp (seccomp(2)). Three filters hold at once, and the hardest answer counts:
//!
//! - **What vgpud does is allowed**, by list: what Rust's library, tokio, SQLite, the C library and its
//!   user database modules call. Anything else answers ENOSYS, as on a kernel that is too old for it,
//!   so that a C library with newer calls falls back to older ones. The lists are by purpose and wider
//!   than what was seen, for the same binary is to work with the libraries of Debian 12 and 13.
//! - **What only an attacker calls ends the process** ([`DEADLY`]): taking over other processes, mounts,
//!   namespaces, kernel modules, and the calls whose faults are known for it. systemd starts vgpud again,
//!   the audit log names the call, and VMs are not touched. An error would let them try the next one.
//! - **What a library might call answers EPERM** ([`REFUSED`] and [`refused_arguments`]): an outage for a
//!   module of the user database that asks for a keyring would be worse than its error.
//!
//! Calls are told apart by numbers and not by what pointers lead to: `clone3` (its flags lie in memory)
//! is left out, for `clone` to be called instead, and paths are Landlock's business.

use nix::libc as c;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp as Is, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::{collections::BTreeMap, env::consts::ARCH};

/// Which calls a process keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    Daemon,
    Device,
    Lookout,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Installs the filters for this thread and all that it starts.
pub fn restrict(set: Set) -> Result<(), Error> {
    programs(set, ARCH.try_into()?)?.iter().try_for_each(|program| seccompiler::apply_filter(program))
}

/// The allowing one first: of two errors, that of the later filter counts.
fn programs(set: Set, arch: TargetArch) -> Result<[BpfProgram; 3], Error> {
    use SeccompAction::{Allow, KillProcess};
    let all = |calls: &[i64]| -> Rules { calls.iter().map(|call| (*call, Vec::new())).collect() };
    let allowed = match set {
        Set::Daemon => [ALWAYS, DEVICES, FILES, SOCKETS, PROGRAMS].concat(),
        Set::Device => [ALWAYS, DEVICES].concat(),
        Set::Lookout => ALWAYS.to_vec(),
    };
    let mut refused = all(REFUSED);
    for (call, rule) in refused_arguments(set)? {
        refused.entry(call).or_default().push(rule);
    }
    let program = |rules, otherwise, action| -> Result<BpfProgram, Error> {
        Ok(SeccompFilter::new(rules, otherwise, action, arch)?.try_into()?)
    };
    Ok([
        program(all(&allowed), errno(c::ENOSYS), Allow)?,
        program(refused, Allow, errno(c::EPERM))?,
        program(all(DEADLY), Allow, KillProcess)?,
    ])
}

const fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

/// Memory, threads, time, signals and reading.
#[rustfmt::skip]
const ALWAYS: &[i64] = &[
    // Memory. What may be executed is refused below.
    c::SYS_brk, c::SYS_mmap, c::SYS_munmap, c::SYS_mremap, c::SYS_mprotect, c::SYS_madvise, c::SYS_msync,
    c::SYS_mlock, c::SYS_munlock,
    // Threads and this process.
    c::SYS_clone, c::SYS_exit, c::SYS_exit_group, c::SYS_futex, c::SYS_futex_waitv, c::SYS_set_robust_list,
    c::SYS_get_robust_list, c::SYS_rseq, c::SYS_set_tid_address, c::SYS_membarrier, c::SYS_sched_yield,
    c::SYS_sched_getaffinity, c::SYS_getcpu, c::SYS_getpid, c::SYS_gettid, c::SYS_getppid, c::SYS_getuid,
    c::SYS_geteuid, c::SYS_getgid, c::SYS_getegid, c::SYS_getresuid, c::SYS_getresgid, c::SYS_getgroups,
    c::SYS_getpgid, c::SYS_getsid, c::SYS_getrusage, c::SYS_prlimit64, c::SYS_prctl,
    c::SYS_capget, c::SYS_capset, c::SYS_uname, c::SYS_sysinfo, c::SYS_getrandom, c::SYS_umask,
    c::SYS_seccomp, c::SYS_landlock_create_ruleset, c::SYS_landlock_add_rule, c::SYS_landlock_restrict_self,
    // Time.
    c::SYS_clock_gettime, c::SYS_clock_getres, c::SYS_clock_nanosleep, c::SYS_nanosleep, c::SYS_gettimeofday,
    c::SYS_timerfd_create, c::SYS_timerfd_settime, c::SYS_timerfd_gettime, c::SYS_times,
    // Signals; Landlock keeps the daemon's inside, and the arguments those of the others.
    c::SYS_rt_sigaction, c::SYS_rt_sigprocmask, c::SYS_rt_sigreturn, c::SYS_rt_sigpending,
    c::SYS_rt_sigtimedwait, c::SYS_rt_sigsuspend, c::SYS_sigaltstack, c::SYS_signalfd4, c::SYS_tgkill,
    c::SYS_restart_syscall,
    // Reading, and writing to what is open.
    c::SYS_openat, c::SYS_close, c::SYS_close_range, c::SYS_read, c::SYS_readv, c::SYS_pread64, c::SYS_preadv,
    c::SYS_preadv2, c::SYS_write, c::SYS_writev, c::SYS_pwrite64, c::SYS_pwritev, c::SYS_pwritev2, c::SYS_lseek,
    c::SYS_fstat, c::SYS_newfstatat, c::SYS_statx, c::SYS_statfs, c::SYS_fstatfs, c::SYS_getdents64,
    c::SYS_readlinkat, c::SYS_faccessat, c::SYS_faccessat2, c::SYS_getcwd, c::SYS_fcntl, c::SYS_flock,
    c::SYS_dup, c::SYS_dup3, c::SYS_fadvise64, c::SYS_sendto, c::SYS_recvfrom,
    // Waiting.
    c::SYS_epoll_create1, c::SYS_epoll_ctl, c::SYS_epoll_pwait, c::SYS_epoll_pwait2, c::SYS_eventfd2,
    c::SYS_ppoll, c::SYS_pselect6, c::SYS_pipe2,
    // Older forms of these, which Arm does not have.
    #[cfg(target_arch = "x86_64")] c::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")] c::SYS_getpgrp,
    #[cfg(target_arch = "x86_64")] c::SYS_getrlimit,
    #[cfg(target_arch = "x86_64")] c::SYS_time,
    #[cfg(target_arch = "x86_64")] c::SYS_open,
    #[cfg(target_arch = "x86_64")] c::SYS_stat,
    #[cfg(target_arch = "x86_64")] c::SYS_lstat,
    #[cfg(target_arch = "x86_64")] c::SYS_access,
    #[cfg(target_arch = "x86_64")] c::SYS_readlink,
    #[cfg(target_arch = "x86_64")] c::SYS_dup2,
    #[cfg(target_arch = "x86_64")] c::SYS_pipe,
    #[cfg(target_arch = "x86_64")] c::SYS_epoll_create,
    #[cfg(target_arch = "x86_64")] c::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")] c::SYS_poll,
    #[cfg(target_arch = "x86_64")] c::SYS_select,
    #[cfg(target_arch = "x86_64")] c::SYS_getdents,
];

/// Requests to devices: VFIO, iommufd, KVM.
const DEVICES: &[i64] = &[c::SYS_ioctl];

/// Changing files: the ledger, CDI files, the socket, owners and modes of nodes.
#[rustfmt::skip]
const FILES: &[i64] = &[
    c::SYS_mkdirat, c::SYS_unlinkat, RENAMEAT, c::SYS_renameat2, c::SYS_ftruncate, c::SYS_fallocate,
    c::SYS_fsync, c::SYS_fdatasync, c::SYS_fchmod, c::SYS_fchmodat, FCHMODAT2,
    c::SYS_fchown, c::SYS_fchownat, c::SYS_utimensat,
    #[cfg(target_arch = "x86_64")] c::SYS_mkdir,
    #[cfg(target_arch = "x86_64")] c::SYS_rmdir,
    #[cfg(target_arch = "x86_64")] c::SYS_unlink,
    #[cfg(target_arch = "x86_64")] c::SYS_rename,
    #[cfg(target_arch = "x86_64")] c::SYS_chmod,
    #[cfg(target_arch = "x86_64")] c::SYS_chown,
    #[cfg(target_arch = "x86_64")] c::SYS_lchown,
];

/// The API, systemd's socket and the user database.
#[rustfmt::skip]
const SOCKETS: &[i64] = &[
    c::SYS_socket, c::SYS_socketpair, c::SYS_bind, c::SYS_listen, c::SYS_accept, c::SYS_accept4, c::SYS_connect,
    c::SYS_getsockname, c::SYS_getpeername, c::SYS_getsockopt, c::SYS_setsockopt, c::SYS_sendmsg,
    c::SYS_sendmmsg, c::SYS_recvmsg, c::SYS_recvmmsg, c::SYS_shutdown,
];

/// Starting the process that works on a device, and waiting for it and for lease holders.
#[rustfmt::skip]
const PROGRAMS: &[i64] = &[
    c::SYS_execve, c::SYS_wait4, c::SYS_waitid, c::SYS_kill, c::SYS_pidfd_open, c::SYS_pidfd_send_signal,
    c::SYS_setpgid, c::SYS_setsid, c::SYS_chdir, c::SYS_fchdir,
    #[cfg(target_arch = "x86_64")] c::SYS_fork,
    #[cfg(target_arch = "x86_64")] c::SYS_vfork,
];

/// The libc crate does not name these two (linux/fcntl.h).
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// Number 452 everywhere (Linux 6.6); the libc crate does not name it for all.
const FCHMODAT2: i64 = 452;
/// The libc crate does not name it for Arm.
const RENAMEAT: i64 = if cfg!(target_arch = "x86_64") { 264 } else { 38 };

/// What vgpud and the libraries in it never call.
#[rustfmt::skip]
const DEADLY: &[i64] = &[
    // Other processes.
    c::SYS_ptrace, c::SYS_process_vm_readv, c::SYS_process_vm_writev, c::SYS_pidfd_getfd, c::SYS_kcmp,
    c::SYS_process_madvise,
    // Mounts, roots and namespaces.
    c::SYS_mount, c::SYS_umount2, c::SYS_pivot_root, c::SYS_chroot, c::SYS_fsopen, c::SYS_fspick,
    c::SYS_fsconfig, c::SYS_fsmount, c::SYS_move_mount, c::SYS_open_tree, c::SYS_mount_setattr,
    c::SYS_setns, c::SYS_unshare, c::SYS_open_by_handle_at,
    // The kernel itself.
    c::SYS_init_module, c::SYS_finit_module, c::SYS_delete_module, c::SYS_kexec_load, KEXEC_FILE_LOAD,
    c::SYS_reboot, c::SYS_swapon, c::SYS_swapoff, c::SYS_acct, c::SYS_syslog, c::SYS_quotactl,
    c::SYS_settimeofday, c::SYS_clock_settime, c::SYS_clock_adjtime, c::SYS_adjtimex, c::SYS_sethostname,
    c::SYS_setdomainname, c::SYS_vhangup, c::SYS_fanotify_init, c::SYS_lookup_dcookie,
    // Known for their faults, or for what they make of others'.
    c::SYS_bpf, c::SYS_perf_event_open, c::SYS_userfaultfd, c::SYS_personality, c::SYS_move_pages,
    c::SYS_migrate_pages, c::SYS_vmsplice,
    #[cfg(target_arch = "x86_64")] c::SYS_iopl,
    #[cfg(target_arch = "x86_64")] c::SYS_ioperm,
    #[cfg(target_arch = "x86_64")] c::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")] c::SYS_uselib,
];

/// x86-64 and Arm number it apart.
const KEXEC_FILE_LOAD: i64 = if cfg!(target_arch = "x86_64") { 320 } else { 294 };

/// What a library might try, and does without.
#[rustfmt::skip]
const REFUSED: &[i64] = &[
    c::SYS_keyctl, c::SYS_add_key, c::SYS_request_key,
    c::SYS_io_uring_setup, c::SYS_io_uring_enter, c::SYS_io_uring_register,
    c::SYS_setuid, c::SYS_setgid, c::SYS_setreuid, c::SYS_setregid, c::SYS_setresuid, c::SYS_setresgid,
    c::SYS_setgroups, c::SYS_setfsuid, c::SYS_setfsgid,
    c::SYS_mknodat, c::SYS_symlinkat, c::SYS_linkat, c::SYS_memfd_create, c::SYS_memfd_secret,
    c::SYS_execveat, c::SYS_truncate, c::SYS_setxattr, c::SYS_fsetxattr, c::SYS_lsetxattr, c::SYS_tkill,
    #[cfg(target_arch = "x86_64")] c::SYS_mknod,
    #[cfg(target_arch = "x86_64")] c::SYS_symlink,
    #[cfg(target_arch = "x86_64")] c::SYS_link,
    #[cfg(target_arch = "x86_64")] c::SYS_creat,
];

/// An argument's lower 32 bits, of which the kernel takes no more for any of these.
fn argument(index: u8, is: Is, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(index, SeccompCmpArgLen::Dword, is, value)?)
}

fn bits(index: u8, bits: u64) -> Result<SeccompCondition, Error> {
    argument(index, Is::MaskedEq(bits), bits)
}

/// `call` with all of these arguments.
fn with(call: i64, conditions: Vec<SeccompCondition>) -> Result<(i64, SeccompRule), Error> {
    Ok((call, SeccompRule::new(conditions)?))
}

/// Allowed calls whose arguments make them something else.
fn refused_arguments(set: Set) -> Result<Vec<(i64, SeccompRule)>, Error> {
    let number = |value: i32| u64::from(value.unsigned_abs());
    let mut refused = Vec::new();
    // Sockets of other families: netlink's for uevents is open by now.
    for call in [c::SYS_socket, c::SYS_socketpair] {
        refused.push(with(call, vec![argument(0, Is::Ne, number(c::AF_UNIX))?])?);
    }
    // Memory that becomes code. Mapped libraries are read-only; a file that it wrote itself is not told apart.
    let (write, execute) = (number(c::PROT_WRITE), number(c::PROT_EXEC));
    refused.push(with(c::SYS_mmap, vec![bits(2, write | execute)?])?);
    refused.push(with(c::SYS_mprotect, vec![bits(2, execute)?])?);
    // Namespaces by clone; CLONE_NEWTIME is none of its flags.
    for flag in [
        c::CLONE_NEWNS,
        c::CLONE_NEWCGROUP,
        c::CLONE_NEWUTS,
        c::CLONE_NEWIPC,
        c::CLONE_NEWUSER,
        c::CLONE_NEWPID,
        c::CLONE_NEWNET,
    ] {
        refused.push(with(c::SYS_clone, vec![bits(0, number(flag))?])?);
    }
    // Limits of other processes: one of CPU time ends them.
    refused.push(with(c::SYS_prlimit64, vec![argument(0, Is::Ne, 0)?])?);
    // Signals to other processes, at once or when a file is ready. The daemon's stay inside by Landlock,
    // and it starts processes that inherit its filters; these start none.
    if set != Set::Daemon {
        refused.push(with(c::SYS_tgkill, vec![argument(0, Is::Ne, std::process::id().into())?])?);
        for owner in [c::F_SETOWN, F_SETSIG, F_SETOWN_EX] {
            refused.push(with(c::SYS_fcntl, vec![argument(1, Is::Eq, number(owner))?])?);
        }
    }
    // Typing into a terminal: TIOCSTI and TIOCLINUX.
    for request in [0x5412, 0x541c] {
        refused.push(with(c::SYS_ioctl, vec![argument(1, Is::Eq, request)?])?);
    }
    // Files that run with their owner's rights.
    let modes = [(c::SYS_fchmod, 1), (c::SYS_fchmodat, 2), (FCHMODAT2, 2)];
    #[cfg(target_arch = "x86_64")]
    let modes = [&modes[..], &[(c::SYS_chmod, 1)]].concat();
    let set_id = [u64::from(c::S_ISUID), u64::from(c::S_ISGID)];
    for (call, at) in modes {
        for bit in set_id {
            refused.push(with(call, vec![bits(at, bit)?])?);
        }
    }
    let opens = [(c::SYS_openat, 2)];
    #[cfg(target_arch = "x86_64")]
    let opens = [&opens[..], &[(c::SYS_open, 1)]].concat();
    for (call, flags) in opens {
        for bit in set_id {
            refused.push(with(call, vec![bits(flags, number(c::O_CREAT))?, bits(flags + 1, bit)?])?);
        }
        if set == Set::Lookout {
            for flag in [c::O_WRONLY, c::O_RDWR, c::O_CREAT, c::O_TRUNC] {
                refused.push(with(call, vec![bits(flags, number(flag))?])?);
            }
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_makes_filters_for_both_architectures() {
        for set in [Set::Daemon, Set::Device, Set::Lookout] {
            for arch in [TargetArch::x86_64, TargetArch::aarch64] {
                // Longer ones are refused by the kernel (BPF_MAXINSNS).
                assert!(programs(set, arch).unwrap().iter().all(|program| program.len() <= 4096));
            }
        }
    }

    #[test]
    fn no_call_is_in_two_lists() {
        let lists = [ALWAYS, DEVICES, FILES, SOCKETS, PROGRAMS, DEADLY, REFUSED].concat();
        let mut calls = lists.clone();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), lists.len());
    }
}
