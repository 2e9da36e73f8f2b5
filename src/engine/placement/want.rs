//! What a request wants of a profile.

use std::fmt;
use vgpud_config::{ClassSettings, ClassWant, ComputeRequest, Memory, ProfileName};
use vgpud_mdev::{Hold, Profile};

/// A profile by name, or a size; each bound means "at least", so that the smallest profile with it can be found
/// on any vendor's GPU, whatever parts it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Profile(ProfileName),
    Size { memory: Option<Memory>, compute: Option<ComputeWant> },
}

/// A share of compute, and how the slice is to have it: as all that it gets, or as what it gets at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeWant {
    pub request: ComputeRequest,
    /// Whether only a profile will do whose mechanism enforces it.
    pub enforced: bool,
}

impl ComputeWant {
    /// How the profile's share holds as what is asked for.
    pub(super) const fn hold(self, profile: &Profile) -> Hold {
        profile.holds.of(self.request.kind)
    }
}

impl Want {
    #[must_use]
    pub fn accepts(&self, profile: &Profile) -> bool {
        self.has_size(profile) && self.is_enforced(profile)
    }

    /// Whether it is of this size, however its share of compute holds.
    pub(super) fn has_size(&self, profile: &Profile) -> bool {
        match self {
            Self::Profile(name) => profile.name == *name,
            Self::Size { memory, compute } => {
                memory.is_none_or(|least| profile.memory.is_some_and(|has| has >= least))
                    && compute.is_none_or(|want| profile.compute.is_some_and(|has| has >= want.request.share))
            }
        }
    }

    fn is_enforced(&self, profile: &Profile) -> bool {
        match self.compute() {
            Some(want) if want.enforced => want.hold(profile) == Hold::Enforced,
            Some(_) | None => true,
        }
    }

    pub(super) const fn compute(&self) -> Option<ComputeWant> {
        match self {
            Self::Size { compute, .. } => *compute,
            Self::Profile(_) => None,
        }
    }
}

impl From<&ClassSettings> for Want {
    fn from(class: &ClassSettings) -> Self {
        match &class.want {
            ClassWant::Profile(name) => Self::Profile(name.clone()),
            ClassWant::Size { memory, compute } => Self::Size {
                memory: *memory,
                compute: compute.map(|request| ComputeWant { request, enforced: class.enforced }),
            },
        }
    }
}

impl fmt::Display for ComputeWant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let enforced = if self.enforced { ", enforced" } else { "" };
        write!(f, "{} of compute{enforced}", self.request)
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(name) => write!(f, "{name}"),
            Self::Size { memory: Some(memory), compute: Some(compute) } => {
                write!(f, "{memory} and {compute}")
            }
            Self::Size { memory: Some(memory), .. } => write!(f, "{memory}"),
            Self::Size { compute: Some(compute), .. } => write!(f, "{compute}"),
            Self::Size { .. } => f.write_str("any size"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vgpud_config::{ComputeKind, ComputeShare};
    use vgpud_mdev::Holds;

    fn share(count: u16) -> ComputeShare {
        ComputeShare::one_of(count)
    }

    fn profile(compute: Option<ComputeShare>, holds: Holds) -> Profile {
        let (memory, name) = (Some(Memory::from_bytes(1 << 30)), "vf-8".parse().unwrap());
        Profile { name, memory, compute, holds, capacity: 8, available: 8 }
    }

    fn want(compute: &str, enforced: bool) -> Want {
        let request = compute.parse().unwrap();
        Want::Size { memory: None, compute: Some(ComputeWant { request, enforced }) }
    }

    #[test]
    fn a_share_is_at_least_what_is_asked_for() {
        let accepted = |asked: &str| {
            let counts = [1, 2, 3, 4, 7, 8, 16, 31];
            let fits =
                |count: &u16| want(asked, false).accepts(&profile(Some(share(*count)), Holds::default()));
            counts.into_iter().filter(fits).collect::<Vec<_>>()
        };
        for (asked, counts) in
            [("50%", &[1, 2][..]), ("33.33%", &[1, 2, 3]), ("34%", &[1, 2]), ("100%", &[1]), ("60%", &[1])]
        {
            assert_eq!(accepted(asked), counts, "{asked}");
            assert_eq!(accepted(&format!("{asked}+")), counts, "{asked}+");
        }
        assert!(!want("1%+", false).accepts(&profile(None, Holds::ENFORCED)), "no share is known");
    }

    #[test]
    fn enforced_is_what_the_mechanism_enforces_of_what_is_asked() {
        let capped = Holds { cap: Hold::Enforced, floor: Hold::BestEffort };
        let fits = |asked: &str, holds| want(asked, true).accepts(&profile(Some(share(8)), holds));
        assert!(fits("12.5%", capped) && !fits("12.5%+", capped));
        assert!(fits("12.5%", Holds::ENFORCED) && fits("12.5%+", Holds::ENFORCED));
        for unkept in [Holds::BEST_EFFORT, Holds::NOT_AVAILABLE] {
            assert!(!fits("12.5%", unkept) && !fits("12.5%+", unkept));
            assert!(want("12.5%", false).accepts(&profile(Some(share(8)), unkept)));
        }
    }

    #[test]
    fn a_class_is_what_it_was_written_for() {
        let compute = Some("25%+".parse().unwrap());
        let small = ClassWant::Size { memory: Some(Memory::from_bytes(10 << 30)), compute };
        let class = ClassSettings { want: small, enforced: true };
        assert_eq!(Want::from(&class).to_string(), "10GiB and 25%+ of compute, enforced");
        let class = ClassSettings { want: ClassWant::Profile("vf-1".parse().unwrap()), enforced: false };
        assert_eq!(Want::from(&class), Want::Profile("vf-1".parse().unwrap()));
    }

    fn compute() -> impl Strategy<Value = ComputeShare> {
        (1_u16..=10_000)
            .prop_map(|hundredths| format!("{}.{:02}%", hundredths / 100, hundredths % 100).parse().unwrap())
    }

    fn holds() -> impl Strategy<Value = Holds> {
        let hold = || prop::sample::select(vec![Hold::Enforced, Hold::BestEffort, Hold::NotAvailable]);
        (hold(), hold()).prop_map(|(cap, floor)| Holds { cap, floor })
    }

    proptest! {
        /// Whatever is asked: never less, and nothing unenforced where that is insisted on.
        #[test]
        fn what_is_accepted_keeps_its_bound(
            asked in compute(), has in compute(), holds in holds(), cap: bool, enforced: bool,
        ) {
            let kind = if cap { ComputeKind::Cap } else { ComputeKind::Guarantee };
            let compute = ComputeWant { request: ComputeRequest { share: asked, kind }, enforced };
            let want = Want::Size { memory: None, compute: Some(compute) };
            let profile = profile(Some(has), holds);
            if want.accepts(&profile) {
                prop_assert!(has >= asked);
                prop_assert!(!enforced || holds.of(kind) == Hold::Enforced);
            }
            prop_assert!(!want.accepts(&profile) || want.has_size(&profile));
            prop_assert_eq!(
                want.has_size(&profile),
                Want::Size { memory: None, compute: Some(ComputeWant { enforced: false, ..compute }) }.accepts(&profile)
            );
        }

        #[test]
        fn a_share_is_its_own_cap_and_its_own_guarantee(has in compute()) {
            for kind in [ComputeKind::Cap, ComputeKind::Guarantee] {
                let request = ComputeRequest { share: has, kind };
                let compute = Some(ComputeWant { request, enforced: false });
                let want = Want::Size { memory: None, compute };
                prop_assert!(want.accepts(&profile(Some(has), Holds::NOT_AVAILABLE)));
            }
        }
    }
}
