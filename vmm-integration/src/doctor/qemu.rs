//! Check of QEMU, which `vgpuctl run` starts.

use super::Check;
use crate::micro_vm::find_program;
use std::{
    env,
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use vgpud_config::{Quoted, Shown};
use vgpud_mdev::wait;

/// The first version with iommufd (QEMU: docs/devel/vfio-iommufd.rst).
const WITH_CDEV: u32 = 9;
/// How long QEMU may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);

const NAME: &str = "qemu";

pub(super) fn qemu(program: &Path) -> Check {
    let Ok(path) = find_program(program, env::var_os("PATH").as_deref()) else {
        let mend = "install QEMU (Debian: apt install qemu-system-x86) or set qemu under [run]; only vgpuctl run needs it";
        return Check::warn(NAME, format!("there is no program {}", program.display()), mend);
    };
    let said = match version(&path) {
        Ok(said) => said,
        Err(error) => {
            let found = format!("{} does not say its version: {error}", path.display());
            return Check::fail(NAME, found, "install QEMU anew, or set qemu under [run]");
        }
    };
    judge(&path, &said)
}

/// By what it said of its version.
pub(crate) fn judge(path: &Path, said: &str) -> Check {
    let first = said.lines().next().unwrap_or_default().trim();
    let shown = Shown(first);
    let number = first.split_whitespace().skip_while(|word| *word != "version").nth(1).unwrap_or_default();
    match number.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        None => {
            let found = format!("{} says {} for its version", path.display(), Quoted(first));
            Check::fail(NAME, found, "set qemu under [run] to QEMU's program")
        }
        Some(major) if major < WITH_CDEV => {
            let mend = "set node = \"group\" under [vfio], or install QEMU 9.0 or later";
            Check::warn(NAME, format!("{shown}, which takes slices by group only"), mend)
        }
        Some(_) => Check::pass(NAME, shown.to_string()),
    }
}

fn version(program: &Path) -> io::Result<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let ended = wait::until("QEMU's version", PATIENCE, || child.try_wait().map_err(Late::Failed));
    if let Err(error) = ended {
        child.kill()?;
        child.wait()?;
        return Err(match error {
            Late::Failed(error) => error,
            Late::TimedOut(error) => io::Error::new(io::ErrorKind::TimedOut, error),
        });
    }
    let mut said = String::new();
    if let Some(stdout) = child.stdout {
        stdout.take(64 << 10).read_to_string(&mut said)?;
    }
    Ok(said)
}

enum Late {
    Failed(io::Error),
    TimedOut(wait::TimedOut),
}

impl From<wait::TimedOut> for Late {
    fn from(error: wait::TimedOut) -> Self {
        Self::TimedOut(error)
    }
}
