//! The QEMU process that is the lab host.
//!
//! Odd but meant:
//! - QEMU is the lab's own (from its Debian root), started through that root's dynamic linker, so
//!   neither a chroot nor the machine's release matters.
//! - It starts through `setpriv --pdeathsig KILL`, from a thread that lives as long as it does: the
//!   kernel sends that signal when the *thread* that forked ends.
//! - The host's RAM ends at 8 GiB for its kernel (`mem=`); what QEMU gives beyond is the simulated
//!   GPUs' VRAM.
//! - One vCPU under software emulation: with two, about one micro-VM boot in ten breaks.
//!   `no_timer_check`: on a busy machine the kernel's timer test fails under emulation and panics.
//! - `mitigations=off init_on_alloc=0`: what guards a CPU and pages costs emulation much, and the host is
//!   nobody's.
//! - 9p with `security_model=none` as root: files in the share have the owners that the host gives.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accelerator::Accelerator;
use crate::command::tied;
use crate::error::{Error, Result};
use crate::run_folder::RunFolder;
use crate::spec::{Console, HostSpec, Iommu};

/// MiB of RAM of the machine; its kernel uses what lies below [`MEMORY_END_GIB`].
const MEMORY_MIB: u32 = 8192;
/// QEMU's q35 has 2 GiB below 4 GiB and the rest above, so 2 GiB lie beyond this.
const MEMORY_END_GIB: u32 = 8;

/// The files that a host is started from.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    pub root: &'a Path,
    pub disk: PathBuf,
    /// The folder that `tests/lab/build/layer.sh` filled.
    pub layer: &'a Path,
}

/// The lab's QEMU, without arguments of a machine.
pub(crate) fn program(root: &Path) -> Command {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = tied(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(&libraries)
        .arg(root.join("usr/bin/qemu-system-x86_64"))
        .arg("-L")
        .arg(root.join("usr/share/qemu"))
        .arg("-L")
        .arg(root.join("usr/share/seabios"))
        .args("-no-user-config -nodefaults -display none -monitor none -no-reboot".split(' '))
        .env("QEMU_MODULE_DIR", libraries.join("qemu"))
        .env("LC_ALL", "C");
    command
}

/// The whole command line of a host.
pub(crate) fn host(
    images: &Images<'_>,
    run: &RunFolder,
    spec: &HostSpec,
    accelerator: &Accelerator,
) -> Command {
    let mut command = program(images.root);
    command
        .args(["-machine", "q35,kernel-irqchip=split"])
        .args(accelerator.arguments())
        .args(["-m", &MEMORY_MIB.to_string()])
        .arg("-kernel")
        .arg(images.layer.join("vmlinuz"))
        .arg("-initrd")
        .arg(images.layer.join(match spec.iommu {
            Iommu::On => "initrd-iommu",
            Iommu::Off => "initrd",
        }))
        .args(["-append", &kernel_parameters(spec)]);
    for (id, path, option) in
        [("disk", &images.disk, "snapshot=on"), ("layer", &images.layer.join("layer.img"), "readonly=on")]
    {
        command
            .arg("-drive")
            .arg(option_with_path(&format!("if=none,id={id},format=raw,{option},file="), path))
            .args(["-device", &format!("virtio-blk-pci,drive={id}")]);
    }
    if let Some(image) = &spec.disk {
        // The third of its kind, which the host's init relies on.
        command
            .arg("-drive")
            .arg(option_with_path("if=none,id=kept,format=raw,file=", image))
            .args(["-device", "virtio-blk-pci,drive=kept"]);
    }
    command
        .arg("-fsdev")
        .arg(option_with_path("local,id=host,security_model=none,path=", &run.share))
        .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"])
        .args(["-device", "virtio-serial-pci", "-chardev"])
        .arg(option_with_path("socket,id=agent,path=", &run.socket))
        .args(["-device", "virtserialport,chardev=agent,name=agent", "-chardev"])
        .arg(match spec.console {
            Console::Log => option_with_path("file,id=console,path=", &run.console),
            Console::Terminal => option_with_path("stdio,id=console,signal=off,logfile=", &run.console),
        })
        .args(["-serial", "chardev:console"]);
    for device in &spec.devices {
        command.args(["-device", device]);
    }
    if spec.iommu == Iommu::On {
        command.args(["-device", "intel-iommu,intremap=on"]);
    }
    command
}

fn kernel_parameters(spec: &HostSpec) -> String {
    let mut line = format!(
        "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off init_on_alloc=0 mem={MEMORY_END_GIB}G \
         lab.vfio={}",
        spec.vfio
    );
    if spec.iommu == Iommu::On {
        line.push_str(" intel_iommu=on iommu=pt");
    }
    if !spec.gpus.is_empty() {
        line.push_str(&format!(" simgpu.gpus={}", spec.gpus.join(",")));
    }
    if spec.disk.is_some() {
        line.push_str(" lab.disk=/dev/vdc");
    }
    if spec.console == Console::Terminal {
        let (rows, columns) = crate::terminal::size();
        line.push_str(&format!(" lab.shell={rows}x{columns}"));
    }
    for parameter in &spec.kernel_parameters {
        line.push(' ');
        line.push_str(parameter);
    }
    line
}

/// QEMU reads commas in a path as the end of the option unless they are doubled.
fn option_with_path(option: &str, path: &Path) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    OsString::from(format!("{option}{path}"))
}

/// A running QEMU.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    end: Receiver<std::io::Result<ExitStatus>>,
    ended: bool,
}

impl Process {
    /// Starts `command` from a thread that waits for its end.
    pub fn start(mut command: Command, console: Console) -> Result<Self> {
        match console {
            Console::Log => command.stdin(Stdio::null()),
            Console::Terminal => command.stdin(Stdio::inherit()),
        };
        let (started, start) = channel();
        let (sender, end) = channel();
        thread::spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = started.send(Ok(child.id()));
                let _ = sender.send(child.wait());
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        });
        let pid = start.recv().unwrap_or_else(|_| Err(std::io::Error::other("its thread ended"))).map_err(
            |source| Error::Spawn { program: "setpriv".to_owned(), step: "the lab host".to_owned(), source },
        )?;
        Ok(Self { pid: Pid::from_raw(pid.cast_signed()), end, ended: false })
    }

    /// Whether QEMU has ended.
    pub fn ended(&mut self) -> bool {
        if !self.ended {
            self.ended = !matches!(self.end.try_recv(), Err(TryRecvError::Empty));
        }
        self.ended
    }

    /// Ends QEMU without asking the host.
    pub fn kill(&mut self) {
        if !self.ended() {
            // It can only fail when QEMU has ended in between.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_gpus_loads_none_of_the_projects_modules() {
        let line = kernel_parameters(&HostSpec::default());
        assert!(!line.contains("simgpu") && line.contains("lab.vfio=debian"), "{line}");
    }

    #[test]
    fn gpus_reach_the_module_as_its_parameter() {
        let spec = HostSpec::default().gpus(["mi300x", "sim"]);
        let line = kernel_parameters(&spec);
        assert!(line.contains(" simgpu.gpus=mi300x,sim"), "{line}");
    }

    #[test]
    fn without_an_iommu_the_kernel_is_not_told_to_use_one() {
        let spec = HostSpec { iommu: Iommu::Off, ..HostSpec::default() };
        assert!(!kernel_parameters(&spec).contains("iommu"));
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        let option = option_with_path("file=", Path::new("/a,b"));
        assert_eq!(option, "file=/a,,b");
    }
}
