//! `vgpuctl doctor`.

use super::{document::Checks, error::Error, exit::Exit, session::Session};
use clap::Args;

/// Check whether this host is ready; each failed check says how to mend it
///
/// Reads only, and needs no vgpud. Exits with 1 where a check failed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl doctor")]
pub struct DoctorArgs {}

/// Checks the host.
///
/// # Errors
/// Where the settings are wrong or stdout cannot be written.
pub fn execute(session: &Session, DoctorArgs {}: DoctorArgs) -> Result<Exit, Error> {
    let settings = session.settings()?;
    let host = &session.host().clone().with_nvidia(&settings.nvidia).with_mig(settings.mig());
    let mut checks = vgpud_vmm::doctor::examine(host, settings);
    checks.push(crate::daemon::sandbox::examine(settings));
    checks.extend(vgpud_kata::doctor::examine(host, settings));
    let checks = Checks::new(checks);
    session.print(&checks)?;
    session.note(&checks.summary());
    Ok(if checks.is_ready() { Exit::Success } else { Exit::Negative })
}
