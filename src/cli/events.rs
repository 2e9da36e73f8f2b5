//! `vgpuctl events [--follow] [--after N]`.

use super::{document::Event, error::Error, exit::Exit, session::Session};
use crate::api;
use clap::Args;

/// Show what happened, in order; with --follow, what happens from now on too
///
/// One event a line: time, number, kind, slice or GPU, what happened. With --output json, one JSON
/// document a line.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl events --follow --after 120")]
pub struct EventsArgs {
    /// Go on until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only events after this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
}

/// Shows them as they come.
///
/// # Errors
/// Where vgpud cannot be asked, or stops while it is followed.
pub async fn execute(session: &Session, args: &EventsArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let mut last = args.after;
    let mut events =
        client.events(api::WatchEventsRequest { follow: args.follow, after: args.after }).await?;
    while let Some(event) = events.next().await.map_err(|error| error.with_hint(resume(args, last)))? {
        last = event.sequence;
        session.print(&Event::from(event))?;
    }
    if args.follow { Err(Error::EventsEnded { last }) } else { Ok(Exit::Success) }
}

fn resume(args: &EventsArgs, last: u64) -> Option<String> {
    args.follow.then(|| format!("go on later with --after {last}"))
}
