//! `vgpuctl status`.

use super::{document::Daemon, error::Error, exit::Exit, session::Session};
use clap::Args;

/// Show whether vgpud runs, and since when
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl status")]
pub struct StatusArgs {}

/// Shows it.
///
/// # Errors
/// Where vgpud cannot be asked.
pub async fn execute(session: &Session, StatusArgs {}: StatusArgs) -> Result<Exit, Error> {
    let socket = session.socket()?;
    let status = session.connect().await?.status().await?;
    session.print(&Daemon::new(&socket, status))?;
    Ok(Exit::Success)
}
