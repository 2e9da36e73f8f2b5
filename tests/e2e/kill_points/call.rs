//! A system call of vgpud that changes something outside of its memory, as a tracer sees it: the
//! places where a death makes a difference to what the next start finds.

use nix::{libc, unistd::Pid};
use std::{
    ffi::OsString,
    fmt,
    fs::File,
    os::unix::{ffi::OsStringExt, fs::FileExt},
    path::{Path, PathBuf},
};

/// What the call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An attribute of the kernel: VFs, mdevs, drivers.
    Sysfs,
    /// A device, through VFIO.
    Vfio,
    /// Owner and mode of a VFIO node.
    Node,
    Cdi,
    /// A process that works on a device begins.
    Process,
    Ledger,
    Socket,
    /// A file that nothing here knows.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sysfs => "sysfs",
            Self::Vfio => "vfio",
            Self::Node => "node",
            Self::Cdi => "cdi",
            Self::Process => "process",
            Self::Ledger => "ledger",
            Self::Socket => "socket",
            Self::Other => "other",
        })
    }
}

/// Who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Maker {
    Daemon,
    /// The process that the daemon starts for work on a device.
    Device,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub kind: Kind,
    /// The call and what it is about, without what differs from run to run.
    pub what: String,
    pub by: Maker,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            Maker::Daemon => "vgpud",
            Maker::Device => "its device process",
        };
        write!(f, "{} ({}) by {by}", self.what, self.kind)
    }
}

/// Where the daemon under test has its files.
#[derive(Clone, Debug)]
pub struct Places {
    pub state: PathBuf,
    pub socket: PathBuf,
    pub log: PathBuf,
}

/// `VFIO_BASE` is 100 (linux/vfio.h). The numbers that only ask are not among them.
const VFIO: [(u64, &str); 11] = [
    (102, "VFIO_SET_IOMMU"),
    (104, "VFIO_GROUP_SET_CONTAINER"),
    (105, "VFIO_GROUP_UNSET_CONTAINER"),
    (106, "VFIO_GROUP_GET_DEVICE_FD"),
    (110, "VFIO_DEVICE_SET_IRQS"),
    (111, "VFIO_DEVICE_RESET"),
    (113, "VFIO_IOMMU_MAP_DMA"),
    (114, "VFIO_IOMMU_UNMAP_DMA"),
    (118, "VFIO_DEVICE_BIND_IOMMUFD"),
    (119, "VFIO_DEVICE_ATTACH_IOMMUFD_PT"),
    (120, "VFIO_DEVICE_DETACH_IOMMUFD_PT"),
];

/// A call at its entry: the thread that makes it, its number, its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub thread: Pid,
    pub number: i64,
    pub arguments: [u64; 6],
}

impl Entry {
    /// What it is going to change; none where that is nothing.
    pub fn call(&self, places: &Places, by: Maker) -> Option<Call> {
        let [first, second, third, fourth, ..] = self.arguments;
        let (name, path) = match self.number {
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev => {
                ("write", self.open_file(int(first))?)
            }
            libc::SYS_fsync => ("fsync", self.open_file(int(first))?),
            libc::SYS_fdatasync => ("fdatasync", self.open_file(int(first))?),
            libc::SYS_ftruncate => ("ftruncate", self.open_file(int(first))?),
            libc::SYS_fallocate => ("fallocate", self.open_file(int(first))?),
            libc::SYS_fchmod => ("fchmod", self.open_file(int(first))?),
            libc::SYS_fchown => ("fchown", self.open_file(int(first))?),
            libc::SYS_openat if int(third) & MAKES != 0 => ("open", self.path(int(first), second)),
            libc::SYS_open if int(second) & MAKES != 0 => ("open", self.path(libc::AT_FDCWD, first)),
            libc::SYS_creat => ("creat", self.path(libc::AT_FDCWD, first)),
            libc::SYS_rename => ("rename", self.path(libc::AT_FDCWD, second)),
            libc::SYS_renameat | libc::SYS_renameat2 => ("rename", self.path(int(third), fourth)),
            libc::SYS_link => ("link", self.path(libc::AT_FDCWD, second)),
            libc::SYS_linkat => ("link", self.path(int(third), fourth)),
            libc::SYS_symlink => ("symlink", self.path(libc::AT_FDCWD, second)),
            libc::SYS_symlinkat => ("symlink", self.path(int(second), third)),
            libc::SYS_unlink => ("unlink", self.path(libc::AT_FDCWD, first)),
            libc::SYS_unlinkat => ("unlink", self.path(int(first), second)),
            libc::SYS_mkdir => ("mkdir", self.path(libc::AT_FDCWD, first)),
            libc::SYS_mkdirat => ("mkdir", self.path(int(first), second)),
            libc::SYS_mknod => ("mknod", self.path(libc::AT_FDCWD, first)),
            libc::SYS_mknodat => ("mknod", self.path(int(first), second)),
            libc::SYS_rmdir => ("rmdir", self.path(libc::AT_FDCWD, first)),
            libc::SYS_chmod => ("chmod", self.path(libc::AT_FDCWD, first)),
            libc::SYS_fchmodat | libc::SYS_fchmodat2 => ("chmod", self.path(int(first), second)),
            libc::SYS_chown | libc::SYS_lchown => ("chown", self.path(libc::AT_FDCWD, first)),
            libc::SYS_fchownat => ("chown", self.path(int(first), second)),
            // The others are addresses of the kernel's, as of netlink.
            libc::SYS_bind if self.family(second) == libc::AF_UNIX => ("bind", places.socket.clone()),
            // The lookout is started the same way, and its death is that of vgpud.
            libc::SYS_execve if by == Maker::Device && self.starts_work(second) => {
                return Some(Call { kind: Kind::Process, what: "execve".to_owned(), by });
            }
            libc::SYS_ioctl => return self.vfio(first, second, by),
            _ => return None,
        };
        let kind = places.kind(&path)?;
        let what = match kind {
            Kind::Sysfs | Kind::Ledger | Kind::Other => {
                let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                format!("{name} {file}")
            }
            // Their names hold ids of slices and groups.
            Kind::Vfio | Kind::Node | Kind::Cdi | Kind::Process | Kind::Socket => format!("{name} {kind}"),
        };
        Some(Call { kind, what, by })
    }

    fn vfio(&self, file: u64, request: u64, by: Maker) -> Option<Call> {
        let path = self.open_file(int(file))?;
        // linux/vfio.h: VFIO_TYPE is ';', and so is IOMMUFD_TYPE.
        if (request >> 8) & 0xff != u64::from(b';') {
            return None;
        }
        let name = match VFIO.iter().find(|(number, _)| *number == request & 0xff) {
            Some((_, name)) => (*name).to_owned(),
            None if path == Path::new("/dev/iommu") => format!("iommufd ioctl {:#x}", request & 0xff),
            None => return None,
        };
        Some(Call { kind: Kind::Vfio, what: name, by })
    }

    /// Whether these arguments of a program are of one that works on a device.
    fn starts_work(&self, arguments: u64) -> bool {
        // The name of the program and the first word after it; a pointer each.
        let second = self.bytes(arguments + 8, 8).try_into().map_or(0, u64::from_ne_bytes);
        self.text(second) == Path::new("device")
    }

    fn open_file(&self, descriptor: i32) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/fd/{}", self.thread, descriptor)).ok()
    }

    /// A path of an argument, made absolute.
    fn path(&self, folder: i32, address: u64) -> PathBuf {
        let text = self.text(address);
        let base = match folder {
            libc::AT_FDCWD => std::fs::read_link(format!("/proc/{}/cwd", self.thread)).ok(),
            _ => self.open_file(folder),
        };
        base.unwrap_or_default().join(text)
    }

    fn text(&self, address: u64) -> PathBuf {
        let mut bytes = self.bytes(address, 4096);
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
        PathBuf::from(OsString::from_vec(bytes))
    }

    /// The family of a `struct sockaddr`.
    fn family(&self, address: u64) -> i32 {
        self.bytes(address, 2)
            .try_into()
            .map_or(libc::AF_UNSPEC, |bytes| i32::from(u16::from_ne_bytes(bytes)))
    }

    /// Its memory, fewer bytes where the mapping ends before.
    fn bytes(&self, address: u64, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let memory = File::open(format!("/proc/{}/mem", self.thread)).unwrap();
        let read = memory.read_at(&mut bytes, address).unwrap();
        bytes.truncate(read);
        bytes
    }
}

const MAKES: i32 = libc::O_CREAT | libc::O_TRUNC;

/// An argument that is an `int`.
#[expect(clippy::cast_possible_truncation, reason = "the kernel looks at the low half alone")]
const fn int(argument: u64) -> i32 {
    (argument as u32).cast_signed()
}

impl Places {
    /// What a file is to vgpud; none where it is nothing that lasts.
    fn kind(&self, path: &Path) -> Option<Kind> {
        // Pipes, sockets and event counters have names without a folder: `pipe:[17]`.
        let text = path.to_string_lossy();
        if text.starts_with("anon_inode:[vfio") {
            return Some(Kind::Vfio);
        }
        if !path.is_absolute() || path == self.log || path == Path::new("/dev/null") {
            return None;
        }
        let below = |folder: &str| path.starts_with(folder);
        Some(if below("/sys") {
            Kind::Sysfs
        } else if below("/dev/vfio") {
            Kind::Node
        } else if below("/run/cdi") || below("/var/run/cdi") {
            Kind::Cdi
        } else if path.starts_with(&self.state) {
            Kind::Ledger
        } else if path.parent() == self.socket.parent() || Some(path) == self.socket.parent() {
            Kind::Socket
        } else {
            Kind::Other
        })
    }
}
