//! What runs the lab host: KVM when it can nest, software emulation else.
//!
//! That /dev/kvm is there says little: in many virtual machines it cannot run Linux, or does not hand
//! the virtualization extension on. So a probe boots the micro-VM's kernel under KVM and looks for
//! the extension in its /proc/cpuinfo. The answer is kept for this kernel, CPU and boot of the machine.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use crate::cache::{Cache, Inputs};
use crate::command;
use crate::error::{At, Error, Result};
use crate::progress::Progress;
use crate::qemu;

const KVM: &str = "/dev/kvm";
/// Under working KVM the probe takes about a second.
const LIMIT: Duration = Duration::from_secs(20);
/// vCPUs of a host under KVM, at most.
const MOST_CPUS: usize = 4;
/// Bytes of translated code: the default makes a busy host translate the same code again and again.
const TRANSLATION_MIB: u32 = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    Emulation { why: String },
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kvm => f.write_str("KVM, which can nest here"),
            Self::Emulation { why } => write!(f, "software emulation: {why}"),
        }
    }
}

impl Accelerator {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let arguments = match self {
            Self::Kvm => {
                let cpus = std::thread::available_parallelism().map_or(1, usize::from);
                format!("-accel kvm -cpu host -smp {}", cpus.min(MOST_CPUS))
            }
            // QEMU emulates AMD's extension, so KVM works inside. A fifth level of page tables is one more
            // to walk; strings are emulated element by element, so that Linux shall not take bytes for them.
            Self::Emulation { .. } => {
                let cpu = "max,+svm,-la57,-erms,-fsrm";
                format!("-accel tcg,thread=multi,tb-size={TRANSLATION_MIB} -cpu {cpu} -smp 1")
            }
        };
        arguments.split(' ').map(str::to_owned).collect()
    }

    /// Looks, or remembers what was seen.
    pub(crate) fn choose(cache: &Cache, root: &Path, layer: &Path, progress: Progress) -> Result<Self> {
        let why = if access(KVM, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
            "this machine offers no usable /dev/kvm"
        } else if can_nest(cache, root, layer, progress)? {
            return Ok(Self::Kvm);
        } else {
            "/dev/kvm is there, but a Linux that can use virtualization itself does not come up under it"
        };
        Ok(Self::Emulation { why: why.to_owned() })
    }
}

fn can_nest(cache: &Cache, root: &Path, layer: &Path, progress: Progress) -> Result<bool> {
    let read = |path: &str| fs::read_to_string(path).at("read", path);
    let cpuinfo = read("/proc/cpuinfo")?;
    let cpu = cpuinfo.split("\n\n").next().unwrap_or_default();
    // Its clock speed changes all the time.
    let cpu: String = cpu.lines().filter(|line| !line.contains("MHz")).collect();
    let key = Inputs::new()
        .add("kernel", read("/proc/version")?)
        .add("boot", read("/proc/sys/kernel/random/boot_id")?)
        .add("cpu", cpu)
        .add("root", root.file_name().unwrap_or_default().as_encoded_bytes())
        .key();
    let entry = cache.entry("kvm-probe", &key, progress, |folder| {
        let answer = if probe(cache, root, layer)? { "yes" } else { "no" };
        let path = folder.join("answer");
        fs::write(&path, answer).at("write", path)
    })?;
    cache.prune("kvm-probe", 2)?;
    let answer = entry.path().join("answer");
    Ok(fs::read_to_string(&answer).at("read", answer)? == "yes")
}

/// Boots a micro-VM that prints the extension's flag, if it has it.
fn probe(cache: &Cache, root: &Path, layer: &Path) -> Result<bool> {
    let console = cache.log("kvm-probe-console");
    File::create(&console).at("create", &console)?;
    let mut qemu = qemu::program(root);
    qemu.args("-machine q35 -accel kvm -cpu host -m 256".split(' '))
        .arg("-kernel")
        .arg(layer.join("vm-vmlinuz"))
        .arg("-initrd")
        .arg(layer.join("vm-initrd"))
        .args(["-append", "console=ttyS0 quiet panic=-1 -- grep -m1 -o -w -E svm|vmx /proc/cpuinfo"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()));
    match command::run(&mut qemu, "the KVM probe", &cache.log("kvm-probe"), LIMIT) {
        // No end, or a bad one, is an answer; that QEMU cannot even start is not.
        Ok(()) | Err(Error::Step { .. } | Error::Deadline { .. }) => {}
        Err(error) => return Err(error),
    }
    let said = fs::read(&console).at("read", &console)?;
    Ok(String::from_utf8_lossy(&said).lines().any(|line| matches!(line.trim(), "svm" | "vmx")))
}
