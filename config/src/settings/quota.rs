//! `[quota]`: how much an owner may have.

use super::value;
use crate::{Memory, Owner};
use serde::{Deserialize, Deserializer, de::Error};
use std::collections::BTreeMap;

/// `[quota]`. Without it, every owner may have whatever there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaSettings {
    /// Of each owner who has no table of its own.
    pub default: Quota,
    /// By owner. The quota of `team-a` covers `team-a/train-3` and all others below it.
    #[serde(deserialize_with = "whole_owners")]
    pub owner: BTreeMap<Owner, Quota>,
}

/// How much one owner may have leased at a time; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    #[serde(deserialize_with = "value::some")]
    pub slices: Option<u32>,
    /// Of all its slices together.
    #[serde(deserialize_with = "value::some")]
    pub memory: Option<Memory>,
}

/// The quota that counts for somebody, and where it stands in the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    pub quota: Quota,
    /// The table of the settings, such as `[quota.owner."team-a"]`.
    pub table: String,
}

impl Quota {
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.slices.is_none() && self.memory.is_none()
    }
}

impl QuotaSettings {
    /// The quota of an owner, and of all others of the same [`Owner::root`].
    #[must_use]
    pub fn of(&self, owner: &Owner) -> Allowance {
        let root = owner.root();
        match self.owner.get(&root) {
            Some(quota) => Allowance { quota: *quota, table: format!("[quota.owner.\"{root}\"]") },
            None => Allowance { quota: self.default, table: "[quota.default]".to_owned() },
        }
    }
}

fn whole_owners<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Owner, Quota>, D::Error> {
    let owners = BTreeMap::<Owner, Quota>::deserialize(deserializer)?;
    match owners.keys().find(|owner| owner.root() != **owner) {
        Some(part) => Err(D::Error::custom(format!(
            "{part} is counted with all of {root}; write the quota of {root}",
            root = part.root()
        ))),
        None => Ok(owners),
    }
}
