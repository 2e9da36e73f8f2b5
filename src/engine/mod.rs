//! The life of slices, as a pure function: no I/O, no clock, no logging.
//!
//! [`step`] takes a [`State`] and an [`Event`] and says what the state becomes, which [`Effect`]s
//! have to run, and what the audit trail gets to know. Whoever calls it writes all three to the
//! ledger in one transaction before any effect runs, so that after a crash at any instant
//! [`reconcile`] finds every effect again by the phase of its slice.
//!
//! # Transitions
//!
//! | phase | event | becomes | effect |
//! | --- | --- | --- | --- |
//! | (none) | `Plan` | Planned | |
//! | Planned | `Begin` | Creating | Create |
//! | Creating | `Created` | Ready; Destroying where it was given up meanwhile | (Destroy) |
//! | Creating | `CreateFailed` | gone where it never ran, else Destroying; Quarantined where the slice had been ready before | Destroy |
//! | Ready | `Lease`, or all slices of a request with an owner are ready | Leased, not handed over | HandOver |
//! | Leased, not handed over | `HandedOver` | Leased | |
//! | Leased, not handed over | `HandOverFailed` | Releasing | Withdraw |
//! | Leased | `Extend` | Leased, ends later | |
//! | Leased | `Release`, `Destroy` with release | Releasing | Withdraw |
//! | Releasing | `Withdrawn` | Scrubbing | Reset |
//! | Releasing | `StillHeld` | Leased; Quarantined where it was never handed over | (Unpublish) |
//! | Scrubbing | `Scrubbed` | Ready; Destroying where that was asked | (Destroy) |
//! | Scrubbing | `Kept` | Ready for its last owner alone; Quarantined where that is not known | |
//! | Scrubbing | `NoReset` (it has none, or is not clean after it) | Destroying, to be created again under a fresh name | Destroy |
//! | Ready | `Quarantine` | Quarantined | |
//! | Ready, Quarantined | `Destroy` | Destroying | Destroy |
//! | Quarantined | `Clear`, its instance is there | Scrubbing | Reset |
//! | Quarantined | `Clear`, its instance is gone | Creating | Create |
//! | Destroying | `Destroyed` | gone, and with the last slice the GPU is put back; or Creating again | Retire, Create |
//! | any with an effect in progress | its failure, `Overdue` | Quarantined | (Unpublish) |
//! | any | `Contradiction` | Quarantined | (Unpublish) |
//! | any but Destroying, and Creating for the first time | `GpuVanished` | Quarantined | (Unpublish) |
//! | any but Destroying, Quarantined | `Rebooted` | Creating, its lease closed | Create |
//!
//! A request is all or none: where one of its slices fails, those made so far are taken apart. A
//! quarantine is left by `Destroy` or `Clear` only, which an operator asks for; no way leads from it
//! to Ready that does not make the device clean.
//!
//! A whole GPU is quarantined too ([`GpuQuarantine`]), by an operator or by vgpud, and left by
//! `ClearGpu` only. Meanwhile `Plan`, `Lease` and `Clear` are refused on it, requests that are not
//! complete are given up, and where a slice would be created again (`Rebooted`, `Destroyed`) it is
//! quarantined instead.
//!
//! GPUs without slices are divided anew inside (`Partition`); none is used until that has come to its end. It
//! moves no slice and leaves no mark in the state: what a crash interrupts is as the GPU shows it.

pub mod invariants;
pub mod layout;
pub mod placement;
pub mod quota;
pub mod reconcile;

mod effect;
mod event;
mod gpu_quarantine;
mod host_shows;
mod id;
mod moment;
mod note;
mod outcome;
mod partition;
mod rejected;
mod slice;
mod state;
mod step;
mod terms;

pub use effect::{Effect, Partition, Target};
pub use event::{Event, LeasedSlice, PlannedSlice, Ran, ReleaseCause, Shown};
pub use gpu_quarantine::{Actor, GpuQuarantine, GpuQuarantineCause, GpuShown};
pub use id::{Generation, RequestId, SliceId, SliceIdError, UnixMillis};
pub use moment::{BootMillis, Moment};
pub use note::{Note, NoteKind};
pub use rejected::Rejected;
pub use slice::{Fate, Handover, Holder, Lease, Phase, Quarantine, QuarantineCause, Slice, Tie};
pub use state::{Cut, Origin, Retiring, State};
pub use step::{Transition, step};
pub use terms::{Claim, Terms};

#[cfg(test)]
mod tests;
