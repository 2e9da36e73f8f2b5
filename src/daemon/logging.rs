//! The log: one line an event on standard error, where systemd or a person reads it.
//!
//! | level | who reads it |
//! | --- | --- |
//! | `error` | the operator, now: a request failed or something needs a person |
//! | `warn` | the operator, later: it went on, and should not have happened |
//! | `info` | the operator, to see what happened: each entry of the audit trail, start and stop |
//! | `debug` | somebody who looks for a fault: each effect |

use super::LogFormat;
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging; called once, by the program. The journal stamps lines itself.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("VGPUD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            builder.without_time().with_target(false).init();
        }
        LogFormat::Text => builder.with_target(false).init(),
    }
}
