//! `[class.NAME]`: requests that have a name.

use super::value;
use crate::{ComputeRequest, Memory, ProfileName};
use serde::Deserialize;

/// `[class.inference-small]`: what somebody gets who asks for it by that name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct ClassSettings {
    pub want: ClassWant,
    /// Whether only a GPU will do that enforces the share of compute, as the cap or the floor that it is.
    pub enforced: bool,
}

/// A profile by name, or a size; each bound means "at least".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassWant {
    Profile(ProfileName),
    /// At least one of the two is there.
    Size {
        memory: Option<Memory>,
        compute: Option<ComputeRequest>,
    },
}

/// The table as it stands in the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(deserialize_with = "value::some")]
    memory: Option<Memory>,
    #[serde(deserialize_with = "value::some")]
    compute: Option<ComputeRequest>,
    #[serde(deserialize_with = "value::some")]
    profile: Option<ProfileName>,
    enforced: bool,
}

impl TryFrom<Written> for ClassSettings {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { memory, compute, profile, enforced } = written;
        let want = match (profile, memory, compute) {
            (None, None, None) => return Err("a class asks for something; write memory, compute or profile"),
            (Some(profile), None, None) => ClassWant::Profile(profile),
            (None, memory, compute) => ClassWant::Size { memory, compute },
            (Some(_), ..) => {
                return Err(
                    "a profile has its own memory and compute; write a profile, or memory and compute",
                );
            }
        };
        if enforced && !matches!(want, ClassWant::Size { compute: Some(_), .. }) {
            return Err("there is no compute to enforce; write compute too, or leave enforced out");
        }
        Ok(Self { want, enforced })
    }
}
