//! The daemon itself.

use super::{quarantine::QuarantinedGpu, time};
use crate::{
    api,
    cli::{output::Document, table::facts},
};
use serde::Serialize;
use std::path::Path;

#[derive(Debug, Serialize)]
pub struct Daemon {
    daemon: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    socket: String,
    version: String,
    pid: u32,
    started_unix_ms: u64,
    gpus: u32,
    slices: u32,
    leases: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_calls: Option<u64>,
    quarantined_gpus: Vec<QuarantinedGpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
}

impl Daemon {
    pub fn new(socket: &Path, status: api::Status) -> Self {
        Self {
            daemon: Body {
                socket: socket.display().to_string(),
                version: status.version,
                pid: status.pid,
                started_unix_ms: status.started_unix_ms,
                gpus: status.gpus,
                slices: status.slices,
                leases: status.leases,
                denied_calls: status.denied_calls,
                quarantined_gpus: status.quarantined_gpus.into_iter().map(QuarantinedGpu::from).collect(),
                sandbox: status.sandbox,
            },
        }
    }
}

impl Document for Daemon {
    fn text(&self) -> String {
        let Body {
            socket,
            version,
            pid,
            started_unix_ms,
            gpus,
            slices,
            leases,
            denied_calls,
            quarantined_gpus,
            sandbox,
        } = &self.daemon;
        let mut lines = vec![
            ("vgpud", Some(version.clone())),
            ("socket", Some(socket.clone())),
            ("process", Some(pid.to_string())),
            ("running since", Some(time(*started_unix_ms))),
            ("GPUs", Some(gpus.to_string())),
            ("slices", Some(slices.to_string())),
            ("leases", Some(leases.to_string())),
            ("calls denied", denied_calls.map(|calls| calls.to_string())),
            ("sandbox", sandbox.clone()),
        ];
        lines.extend(quarantined_gpus.iter().map(|gpu| ("quarantined", Some(gpu.line()))));
        facts(&lines)
    }
}
