//! Files, by Landlock (Documentation/userspace-api/landlock.rst): what is not named here cannot be
//! opened, made, removed or run, whatever its mode and whoever asks.
//!
//! A rule stands on a file or a folder that is there. What comes to be in a folder later is covered;
//! a folder that is replaced is not, until vgpud is started again.

use super::SandboxError;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};
use vgpud_mdev::{Host, attribute};

/// The newest that this module was tested with (Linux 6.12). An older kernel's is used as far as it
/// goes: before ABI 3 files may be truncated, before 4 TCP is seccomp's alone, before 5 any device
/// that is open takes any request, before 6 signals and abstract sockets reach out.
const NEWEST: ABI = ABI::V6;

/// Where the daemon works, beside what is the same on every host.
#[derive(Clone, Debug)]
pub struct Places {
    pub host: Host,
    /// Folder of the settings, read again at a reload.
    pub settings: PathBuf,
    /// Folder of the ledger.
    pub state: PathBuf,
    /// Folder of the socket.
    pub socket: PathBuf,
    /// Folder of the CDI files.
    pub cdi: PathBuf,
}

/// What became of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walls {
    Landlock {
        abi: i32,
        /// What is not there, so that no rule could stand on it.
        missing: Vec<PathBuf>,
    },
    /// The kernel has no Landlock, or this process does without.
    None,
}

impl fmt::Display for Walls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Landlock { abi, .. } => write!(f, "landlock ABI {abi}"),
            Self::None => f.write_str("no landlock (not in this kernel)"),
        }
    }
}

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Read,
    /// And run what is there: a program that the settings name needs this and no more.
    Run,
    /// And write attributes of devices.
    Set,
    /// And make requests to devices.
    Use,
    /// And make and remove plain files.
    Keep,
    /// Make a socket, and remove it.
    Serve,
}

impl Right {
    fn access(self) -> BitFlags<AccessFs> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        match self {
            Self::Read => read,
            Self::Run => read | AccessFs::Execute,
            Self::Set => read | AccessFs::WriteFile,
            Self::Use => read | AccessFs::WriteFile | AccessFs::IoctlDev,
            Self::Keep => {
                read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile
            }
            Self::Serve => AccessFs::MakeSock | AccessFs::RemoveFile,
        }
    }
}

/// A right, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    path: PathBuf,
    right: Right,
    absence: Absence,
}

/// What it means where the path is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    Usual,
    /// It may come while vgpud runs, and can be used after a new start alone.
    Told,
}

fn rule(path: impl Into<PathBuf>, right: Right) -> Rule {
    Rule { path: path.into(), right, absence: Absence::Usual }
}

/// The devices: nodes of VFIO and KVM.
fn devices(host: &Host) -> Vec<Rule> {
    let nodes = [host.vfio_nodes(), host.iommufd(), host.path("/dev/kvm")];
    nodes.map(|path| Rule { path, right: Right::Use, absence: Absence::Told }).into()
}

/// Everything that the daemon and the processes below it need.
pub fn daemon(places: &Places) -> Result<Vec<Rule>, SandboxError> {
    let (host, real) = (&places.host, Host::default());
    let mut rules = vec![
        rule(host.path("/sys"), Right::Read),
        rule(host.path("/proc"), Right::Read),
        rule(host.path("/lib/modules"), Right::Read),
        rule(host.path("/usr/share"), Right::Read),
        rule(&places.settings, Right::Read),
        rule(&places.state, Right::Keep),
        rule(&places.cdi, Right::Keep),
        rule(&places.socket, Right::Serve),
        rule(host.mig_notes(), Right::Keep),
        rule(host.pci_drivers(), Right::Set),
        rule(host.pci_drivers_probe(), Right::Set),
        // This process and its libraries, and the host's user database (nsswitch.conf(5)).
        rule(real.path("/proc"), Right::Read),
        rule(real.path("/dev/null"), Right::Use),
        rule(real.path("/etc"), Right::Read),
        rule(real.path("/usr/share"), Right::Read),
        rule(real.path("/var/lib/sss"), Right::Read),
        rule(real.path("/var/lib/extrausers"), Right::Read),
        rule(real.path("/run/systemd/userdb"), Right::Read),
    ];
    let libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
    rules.extend(libraries.map(|folder| rule(real.path(folder), Right::Read)));
    rules.extend(pci_roots(host)?.into_iter().map(|root| rule(root, Right::Set)));
    // Shares of Intel's VFs before Linux 6.19; the rest of debugfs stays closed.
    rules.extend(vgpud_mdev::xe_debug_folders(host).into_iter().map(|folder| rule(folder, Right::Set)));
    rules.extend(devices(host));
    rules.extend(own_program(&real)?);
    Ok(rules)
}

/// What the process needs that works on one device; the daemon's rules hold for it too.
pub fn device(host: &Host, writes: Option<PathBuf>) -> Vec<Rule> {
    let mut rules = vec![rule(host.path("/sys"), Right::Read), rule(host.path("/proc"), Right::Read)];
    rules.extend(devices(host));
    rules.extend(writes.map(|attribute| rule(attribute, Right::Set)));
    rules
}

/// Trees of devices with PCI in them: not the processors, power, firmware and memory beside them.
/// On Arm, PCI hosts are platform devices.
fn pci_roots(host: &Host) -> Result<Vec<PathBuf>, SandboxError> {
    let folder = host.path("/sys/devices");
    let names = attribute::names(&folder)
        .map_err(|error| SandboxError::Read { path: folder.clone(), source: io::Error::other(error) })?;
    let pci = names.into_iter().filter(|name| name.starts_with("pci") || name == "platform");
    Ok(pci.map(|name| folder.join(name)).collect())
}

/// The program itself and the folder of its dynamic linker, which the kernel runs with it. The
/// folder and not the file: a new C library may be installed while vgpud runs.
fn own_program(real: &Host) -> Result<Vec<Rule>, SandboxError> {
    let read = |path: PathBuf| move |source| SandboxError::Read { path, source };
    let (program, maps) = (real.path("/proc/self/exe"), real.path("/proc/self/maps"));
    let linked = fs::read_to_string(&maps).map_err(read(maps))?;
    let mapped: BTreeSet<&Path> =
        linked.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..]))).collect();
    let linkers = mapped
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ld-")));
    let folders = linkers.filter_map(Path::parent);
    Ok(folders.map(Path::to_owned).chain([program]).map(|path| rule(path, Right::Run)).collect())
}

/// Lets nothing through but `rules`, and no TCP, no signal and no abstract socket out of this process
/// and its children.
pub fn restrict(rules: &[Rule]) -> Result<Walls, SandboxError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create);
    let mut ruleset = ruleset.map_err(SandboxError::Landlock)?;
    let mut missing = Vec::new();
    for Rule { path, right, absence } in rules {
        let failed = |source| SandboxError::Rule { path: path.clone(), source };
        let access = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => right.access(),
            Ok(_) => right.access() & AccessFs::from_file(NEWEST),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing.extend((*absence == Absence::Told).then(|| path.clone()));
                continue;
            }
            Err(source) => return Err(SandboxError::Read { path: path.clone(), source }),
        };
        let place = PathFd::new(path)
            .map_err(|error| SandboxError::Read { path: path.clone(), source: io::Error::other(error) })?;
        ruleset = ruleset.add_rule(PathBeneath::new(place, access)).map_err(failed)?;
    }
    let status = ruleset.restrict_self().map_err(SandboxError::Landlock)?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Ok(Walls::None),
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
            Ok(Walls::Landlock { abi: kernel_abi.unwrap_or(effective_abi as i32), missing })
        }
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => Ok(Walls::None),
    }
}

/// What this kernel has. A thread tries it on itself and ends.
pub fn supported() -> Walls {
    std::thread::spawn(|| restrict(&[])).join().ok().and_then(Result::ok).unwrap_or(Walls::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgpud_mdev::fake::skip;

    fn places(root: &Path) -> Places {
        let host = Host::new(root);
        let below = |path: &str| host.path(path);
        for folder in ["sys/devices/pci0000:00", "sys/devices/system", "sys/devices/platform", "dev/vfio"] {
            fs::create_dir_all(below(folder)).unwrap();
        }
        Places {
            settings: below("/etc/vgpud"),
            state: below("/var/lib/vgpud"),
            socket: below("/run/vgpud"),
            cdi: below("/run/cdi"),
            host,
        }
    }

    #[test]
    fn only_trees_with_pci_are_written_and_only_the_program_is_run() {
        let root = tempfile::tempdir().unwrap();
        let rules = daemon(&places(root.path())).unwrap();
        let with = |right: Right| {
            let of = rules.iter().filter(|rule| rule.right == right);
            of.map(|rule| rule.path.clone()).collect::<Vec<_>>()
        };
        let sysfs = [
            "sys/bus/pci/drivers",
            "sys/bus/pci/drivers_probe",
            "sys/devices/pci0000:00",
            "sys/devices/platform",
        ];
        assert_eq!(with(Right::Set), sysfs.map(|path| root.path().join(path)));
        assert_eq!(
            with(Right::Keep),
            ["var/lib/vgpud", "run/cdi", "run/vgpud/mig"].map(|path| root.path().join(path))
        );
        let run = with(Right::Run);
        assert!(run.contains(&"/proc/self/exe".into()) && run.len() <= 2, "{run:?}");
        for folder in ["/", "/dev", "/usr/bin", "/bin", "/usr"] {
            assert!(!rules.iter().any(|rule| rule.path == Path::new(folder)), "{folder}");
        }
    }

    /// A rule in a thread of its own: what is below stays, what is beside goes.
    #[test]
    fn what_no_rule_names_is_shut() {
        let root = tempfile::tempdir().unwrap();
        let [open, shut] = ["open", "shut"].map(|name| root.path().join(name));
        for folder in [&open, &shut] {
            fs::create_dir(folder).unwrap();
        }
        let gone = Rule { path: root.path().join("gone"), right: Right::Use, absence: Absence::Told };
        let rules = [rule(&open, Right::Keep), gone.clone()];
        let confined = std::thread::spawn(move || {
            let walls = restrict(&rules).unwrap();
            let made = [open, shut].map(|folder| fs::write(folder.join("file"), "").map_err(|e| e.kind()));
            (walls, made)
        });
        let (walls, made) = confined.join().unwrap();
        let Walls::Landlock { missing, .. } = walls else { return skip("this kernel has no Landlock") };
        assert_eq!(made, [Ok(()), Err(io::ErrorKind::PermissionDenied)]);
        assert_eq!(missing, [gone.path]);
        assert!(matches!(supported(), Walls::Landlock { abi: 1.., .. }));
    }
}
