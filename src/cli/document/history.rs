//! Leases of the past and present, and scrubs.

use super::time;
use crate::{
    api,
    cli::{
        lease_time::told,
        output::Document,
        table::{Field, Grid, Kind, NONE, Tone, or_none},
    },
};
use serde::Serialize;
use std::time::Duration;
use vgpud_config::Memory;

#[derive(Debug, Serialize)]
pub struct History {
    leases: Vec<PastLease>,
}

#[derive(Debug, Serialize)]
struct PastLease {
    slice: String,
    /// Counts the leases of the slice.
    generation: u64,
    gpu: String,
    owner: String,
    /// A VF's PCI address.
    address: Option<String>,
    vf_index: Option<u32>,
    mdev_uuid: Option<String>,
    from_unix_ms: u64,
    /// None while it lasts.
    to_unix_ms: Option<u64>,
    /// Where it lasts and has a limit of time; below 0: over for so long.
    ends_in_ms: Option<i64>,
    ended: Option<String>,
    /// After the lease, in order.
    scrubs: Vec<Scrub>,
}

#[derive(Debug, Serialize)]
pub struct Scrub {
    at_unix_ms: u64,
    work: String,
    result: String,
    /// Why it did not come to a clean slice.
    why: Option<String>,
    evidence: Option<Evidence>,
}

#[derive(Debug, Serialize)]
struct Evidence {
    verdict: String,
    /// What was done, in order.
    method: Vec<String>,
    bytes_checked: u64,
    /// Not zero at the first look.
    bytes_found: u64,
    duration_us: u64,
}

impl From<api::Scrub> for Scrub {
    fn from(scrub: api::Scrub) -> Self {
        let evidence = scrub.evidence.map(|evidence| Evidence {
            verdict: evidence.verdict,
            method: evidence.method,
            bytes_checked: evidence.bytes_checked,
            bytes_found: evidence.bytes_found,
            duration_us: evidence.duration_us,
        });
        Self {
            at_unix_ms: scrub.at_unix_ms,
            work: scrub.work,
            result: scrub.result,
            why: scrub.why,
            evidence,
        }
    }
}

impl Scrub {
    /// `clean: 16MiB checked by reset (flr), read back in 12ms`.
    pub fn sentence(&self) -> String {
        let evidence = match (&self.evidence, &self.why) {
            (Some(evidence), Some(why)) if evidence.bytes_checked == 0 => {
                return format!("{}: {why}", evidence.verdict);
            }
            (Some(evidence), _) => evidence,
            (None, Some(why)) => return format!("{}: {why}", self.result),
            (None, None) => return format!("{}: its memory was not looked at", self.result),
        };
        let checked = Memory::from_bytes(evidence.bytes_checked);
        let took = humantime::format_duration(Duration::from_micros(evidence.duration_us));
        let found = match evidence.bytes_found {
            0 => String::new(),
            bytes => format!(", {bytes} bytes were not zero"),
        };
        let method = evidence.method.join(", ");
        format!("{}: {checked} checked ({method}) in {took}{found}", evidence.verdict)
    }

    fn is_alarming(&self) -> bool {
        !matches!(self.result.as_str(), "clean" | "remade")
    }
}

impl History {
    pub fn new(leases: Vec<api::PastLease>) -> Self {
        let leases = leases.into_iter().map(|lease| PastLease {
            slice: lease.slice,
            generation: lease.generation,
            gpu: lease.gpu,
            owner: lease.owner,
            address: lease.address,
            vf_index: lease.vf_index,
            mdev_uuid: lease.mdev_uuid,
            from_unix_ms: lease.from_unix_ms,
            to_unix_ms: lease.to_unix_ms,
            ended: lease.ended,
            ends_in_ms: lease.ends_in_ms,
            scrubs: lease.scrubs.into_iter().map(Scrub::from).collect(),
        });
        Self { leases: leases.collect() }
    }
}

impl PastLease {
    fn rest(&self) -> Option<String> {
        let ms = self.ends_in_ms?;
        let time = told(ms.unsigned_abs());
        Some(if ms < 0 { format!("over for {time}") } else { format!("in {time}") })
    }

    fn device(&self) -> Field {
        let vf = || self.vf_index.map(|index| format!("VF {index}"));
        or_none(self.address.clone().or_else(|| self.mdev_uuid.clone()).or_else(vf))
    }

    /// The last scrub tells the slice's state; those before it stand in the JSON.
    fn scrubbed(&self) -> Field {
        match self.scrubs.last() {
            Some(scrub) if scrub.is_alarming() => Field::toned(scrub.sentence(), Tone::Alarm),
            Some(scrub) => scrub.sentence().into(),
            None => NONE.into(),
        }
    }
}

impl Document for History {
    fn text(&self) -> String {
        let mut grid = Grid::new(&[
            ("SLICE", Kind::Name),
            ("GPU", Kind::Name),
            ("DEVICE", Kind::Name),
            ("OWNER", Kind::Name),
            ("FROM", Kind::Name),
            ("TO", Kind::Name),
            ("ENDED", Kind::Name),
            ("SCRUB AFTER IT", Kind::Words),
        ]);
        for lease in &self.leases {
            grid.row([
                Field::from(&lease.slice),
                (&lease.gpu).into(),
                lease.device(),
                (&lease.owner).into(),
                time(lease.from_unix_ms).into(),
                or_none(lease.to_unix_ms.map(time).or_else(|| lease.rest())),
                or_none(lease.ended.as_ref()),
                lease.scrubbed(),
            ]);
        }
        grid.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_without_a_look_says_why() {
        let unchecked = Evidence {
            verdict: "unchecked".to_owned(),
            method: vec!["reset".to_owned()],
            bytes_checked: 0,
            bytes_found: 0,
            duration_us: 5,
        };
        for (result, why, evidence, told) in [
            ("failed", Some("it shows no memory"), Some(unchecked), "unchecked: it shows no memory"),
            ("given-up", Some("the kernel does not answer"), None, "given-up: the kernel does not answer"),
            ("clean", None, None, "clean: its memory was not looked at"),
        ] {
            let why = why.map(str::to_owned);
            let (work, result) = ("reset".to_owned(), result.to_owned());
            assert_eq!(Scrub { at_unix_ms: 1, work, result, why, evidence }.sentence(), told);
        }
    }
}
