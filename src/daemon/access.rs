//! Who may call what. The only place that decides it.
//!
//! | role | may |
//! | --- | --- |
//! | viewer | see everything: GPUs, profiles, all slices and their owners, all events, and what a layout would do |
//! | operator | and create, lease, extend, release, verify, destroy and quarantine any slice, quarantine a GPU, and apply a layout |
//! | admin | and clear a quarantine |
//!
//! The caller is who the kernel says connected (SO_PEERCRED of unix(7): the ids at the time of
//! connect(2)), never what a request says. A [`Gate`] stands before all handlers: a call that has no
//! row in [`needed`] does not compile, and a path that is no call of the API reaches no handler. Roles
//! are looked up for each call, so that a change of the settings or of an account counts on
//! connections that are open already.
//!
//! On doubt (an account that the host does not know, a user database that does not answer) the settings'
//! line gives nothing. A denied call is logged and counted; the ledger gets one entry a minute for each
//! user and call, so that a flood of them fills neither disk nor audit trail.

mod accounts;
mod gate;
mod standing;
#[cfg(test)]
mod tests;

pub use accounts::{Accounts, Unanswered, ask};
pub use gate::{Admitted, Caller, Gate, Guard, Unread};
pub use standing::{Peer, Standing};

use crate::api::Rpc;
use std::fmt;

/// What somebody may do; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Operator,
    Admin,
}

/// The role that a call takes.
const fn needed(call: Rpc) -> Role {
    match call {
        Rpc::GetStatus
        | Rpc::ListGpus
        | Rpc::ListProfiles
        | Rpc::ListSlices
        | Rpc::GetSlice
        | Rpc::ListHistory
        | Rpc::ListQuarantine
        | Rpc::PlanLayout
        | Rpc::WatchEvents => Role::Viewer,
        Rpc::CreateSlices
        | Rpc::LeaseSlice
        | Rpc::ExtendLease
        | Rpc::ReleaseSlice
        | Rpc::VerifySlice
        | Rpc::DestroySlice
        // It destroys free slices and creates others, which an operator may do one by one; what it may ask for
        // stands in the settings, which are root's.
        | Rpc::ApplyLayout
        // Out of use is the safe side: whoever sees the smoke may say so.
        | Rpc::QuarantineSlice
        | Rpc::QuarantineGpu => Role::Operator,
        Rpc::ClearQuarantine | Rpc::ClearGpuQuarantine => Role::Admin,
    }
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The key of `[access]` that gives it.
    const fn setting(self) -> &'static str {
        match self {
            Self::Viewer => "viewers",
            Self::Operator => "operators",
            Self::Admin => "admins",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A call that the caller may not make.
#[derive(Debug, thiserror::Error)]
#[error(
    "{user} may not call {}: it takes the role {needed}; an administrator gives it by naming the user or a \
     group of theirs under `{}` in [access] of the settings", call.name(), needed.setting()
)]
pub struct AccessDenied {
    call: Rpc,
    user: String,
    needed: Role,
    /// What in the settings could not be made out, and so gave nothing.
    doubts: Vec<String>,
}

impl AccessDenied {
    #[must_use]
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }
}
