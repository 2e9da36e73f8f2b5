//! What happened.

use super::time;
use crate::{api, cli::output::Document};
use serde::Serialize;
use vgpud_config::printable;

/// One event; JSON has one document a line, so that a stream can be read as it comes.
#[derive(Debug, Serialize)]
pub struct Event {
    event: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    sequence: u64,
    unix_ms: u64,
    kind: String,
    slice: Option<String>,
    gpu: Option<String>,
    owner: Option<String>,
    message: String,
}

impl From<api::Event> for Event {
    fn from(event: api::Event) -> Self {
        Self {
            event: Body {
                sequence: event.sequence,
                unix_ms: event.unix_ms,
                kind: event.kind,
                slice: event.slice,
                gpu: event.gpu,
                owner: event.owner,
                message: event.message,
            },
        }
    }
}

impl Document for Event {
    /// One line: a stream cannot be aligned over events that are still to come.
    fn text(&self) -> String {
        let Body { sequence, unix_ms, kind, slice, gpu, message, owner: _ } = &self.event;
        let subject = slice.as_deref().or(gpu.as_deref()).unwrap_or("-");
        let line = format!("{}  {sequence:>5}  {kind:<16}  {subject:<12}  {message}", time(*unix_ms));
        printable(&line)
    }
}
