//! The daemon itself.

use super::{quarantine::QuarantinedGpu, time};
use crate::{
    api,
    cli::{output::Document, table::facts},
};
use serde::Serialize;
use std::path::Path;
use vgpud_config::Memory;

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
    /// Of the owners who are limited.
    quotas: Vec<Quota>,
}

#[derive(Debug, Serialize)]
struct Quota {
    owner: String,
    slices: u32,
    slices_limit: Option<u32>,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
}

impl Quota {
    /// `3 of 8 slices, 48GiB of 80GiB`.
    fn text(&self) -> String {
        let slices = match self.slices_limit {
            Some(limit) => format!("{} of {limit} slices", self.slices),
            None => format!("{} slices", self.slices),
        };
        let memory = Memory::from_bytes(self.memory_bytes);
        match self.memory_limit_bytes.map(Memory::from_bytes) {
            Some(limit) => format!("{slices}, {memory} of {limit}"),
            None => format!("{slices}, {memory}"),
        }
    }
}

impl From<api::QuotaUse> for Quota {
    fn from(found: api::QuotaUse) -> Self {
        Self {
            owner: found.owner,
            slices: found.slices,
            slices_limit: found.slices_limit,
            memory_bytes: found.memory_bytes,
            memory_limit_bytes: found.memory_limit_bytes,
        }
    }
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
                quotas: status.quotas.into_iter().map(Quota::from).collect(),
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
            quotas,
        } = &self.daemon;
        let quotas: Vec<_> =
            quotas.iter().map(|quota| (format!("quota of {}", quota.owner), quota.text())).collect();
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
        lines.extend(quotas.iter().map(|(label, text)| (label.as_str(), Some(text.clone()))));
        facts(&lines)
    }
}
