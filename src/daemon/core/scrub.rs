//! What goes on record of how a slice was made clean.

use super::Core;
use crate::{
    daemon::executor::{Done, EffectError},
    engine::{Effect, SliceId},
    failure::Failure,
    ledger::{Scrub, ScrubResult, ScrubWork},
};
use vgpud_vmm::scrub::Evidence;

impl Core {
    /// What an effect did to make its slice clean; none where it did not come to that.
    pub(super) fn scrub(&self, effect: &Effect, result: &Result<Done, EffectError>) -> Option<Scrub> {
        let (slice, work) = match effect {
            Effect::Create { target, .. } => (target.slice, ScrubWork::Create),
            Effect::Reset { target } => (target.slice, ScrubWork::Reset),
            _ => return None,
        };
        let (result, why, evidence) = match result {
            Ok(Done::Created(evidence) | Done::Reset(evidence)) => {
                (ScrubResult::Clean, None, evidence.clone())
            }
            Ok(Done::Unclean(evidence)) => {
                (ScrubResult::Remade, evidence.as_ref().map(ToString::to_string), evidence.clone())
            }
            Ok(Done::Kept(evidence)) => {
                (ScrubResult::Kept, Some(evidence.to_string()), Some(evidence.clone()))
            }
            Ok(_) => return None,
            Err(error) => {
                let evidence = match error {
                    EffectError::NotClean { evidence, .. } => Some((**evidence).clone()),
                    EffectError::Process(_) | EffectError::NoReset(_) => None,
                    // Where an instance could not be made, nothing was made clean.
                    _ if work == ScrubWork::Create => return None,
                    _ => None,
                };
                (ScrubResult::Failed, Some(Failure::from(error).line()), evidence)
            }
        };
        self.scrub_of(slice, work, result, why, evidence)
    }

    /// A scrub that passed its deadline.
    pub(super) fn scrub_given_up(&self, effect: &Effect, failure: &Failure) -> Option<Scrub> {
        let Effect::Reset { target } = effect else { return None };
        let why = Some(failure.line());
        self.scrub_of(target.slice, ScrubWork::Reset, ScrubResult::GivenUp, why, None)
    }

    fn scrub_of(
        &self,
        slice: SliceId,
        work: ScrubWork,
        result: ScrubResult,
        why: Option<String>,
        evidence: Option<Evidence>,
    ) -> Option<Scrub> {
        let generation = self.state.slices.get(&slice)?.generation;
        Some(Scrub { slice, generation, work, result, why, evidence })
    }
}
