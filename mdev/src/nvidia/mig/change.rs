//! Changing MIG: its mode, and GPU instances. What `nvidia-smi` says that it did is read again.

use super::{
    Card, GpuInstance, InstanceUse, MigInstance, MigKind, instance_of, is_mig_backed, kind_of, room::Room,
};
use crate::{
    Error, Host, PciAddress, ProfileName,
    nvidia::{
        GeometryProfile,
        smi::{SmiCommand, called, listing},
        tool::Said,
    },
    physical_function::PhysicalFunction,
    virtual_function::VirtualFunction,
};
use std::path::Path;
use vgpud_config::MigMode;

/// Sees to it that VFs can be turned on without ending what somebody else made. Where they are on that is done,
/// and what is there now is not concerned.
///
/// # Errors
/// Names the GPU instances, and the way out.
pub(in crate::nvidia) fn spare_others(host: &Host, gpu: PciAddress) -> Result<(), Error> {
    let Some(card) = Card::find(host, gpu)? else { return Ok(()) };
    if card.has_vfs()? || card.mode()? != Some(MigMode::On) {
        return Ok(());
    }
    match endangered(gpu, &card.instances()?) {
        Some(why) => Err(Error::Unusable { gpu, why }),
        None => Ok(()),
    }
}

/// Why VFs are not turned on, as the end of a sentence: it would end what somebody else made.
pub(super) fn endangered(gpu: PciAddress, there: &[MigInstance]) -> Option<String> {
    let others: Vec<_> = there.iter().filter(|instance| is_foreign(instance)).collect();
    let strangers = strangers(gpu, &others);
    (!others.is_empty()).then(|| {
        format!(
            "its VFs are off, and turning them on would end all its GPU instances{strangers}; or leave the GPU to \
             its user"
        )
    })
}

/// Sets MIG as the settings ask for it, where the GPU has no VFs, and refuses a profile that there is not
/// while MIG is as it is then. Nothing is done of a GPU that has no MIG.
///
/// # Errors
/// Where it cannot be set, or not without a reset of the GPU; then it is as it was.
pub(in crate::nvidia) fn prepare(host: &Host, gpu: PciAddress, profile: &ProfileName) -> Result<(), Error> {
    let Some(card) = Card::find(host, gpu)? else { return Ok(()) };
    let mode = card.settle()?;
    if (mode == Some(MigMode::On)) == is_mig_backed(profile) {
        return Ok(());
    }
    let why = match mode {
        Some(MigMode::On) => format!(
            "MIG is on, and {profile} shares the whole GPU by time; that takes mig = \"off\" for the GPU in \
             the settings, and is so when it has no slice"
        ),
        Some(MigMode::Off) => format!(
            "MIG is off, and {profile} lives in a GPU instance; that takes mig = \"on\" for the GPU in the \
             settings, and is so when it has no slice"
        ),
        None => format!("nvidia-smi says that it has no MIG, and {profile} lives in a GPU instance"),
    };
    Err(Error::Unusable { gpu, why })
}

/// Sets MIG back to what it was before [`prepare`], where that changed it. While there are VFs it is needed,
/// and nothing is done.
///
/// # Errors
/// Where it cannot be set back; GPU instances that are in the way are named.
pub(in crate::nvidia) fn put_back(host: &Host, gpu: PciAddress) -> Result<(), Error> {
    let Some(card) = Card::find(host, gpu)? else { return Ok(()) };
    if card.has_vfs()? {
        return Ok(());
    }
    let notes = card.notes();
    if let Some(before) = notes.read()?.mode_before {
        let now = card.smi().mode()?;
        if now.is_some_and(|now| now.current != before || now.pending != before) {
            if now.is_some_and(|now| now.current == MigMode::On && before == MigMode::Off) {
                card.end_ours()?;
                card.is_empty()?;
            }
            card.set_mode(before)?;
        }
        notes.mode_before(None)?;
    }
    // They ended with the VFs.
    notes.forget_instances()
}

/// Sees to it that there is a GPU instance for a vGPU of this profile, where it is of a type that lives in
/// one: one that nobody uses, or a new one. Those that vgpud made and nobody uses end before.
///
/// # Errors
/// Names what is in the way. There is no new one then.
pub(in crate::nvidia) fn make_room(host: &Host, gpu: PciAddress, profile: &ProfileName) -> Result<(), Error> {
    let Some((card, kind)) = backing(host, gpu, profile)? else { return Ok(()) };
    let there = card.instances()?;
    if there.iter().any(|instance| instance.is_free() && instance.place.kind() == kind) {
        return Ok(());
    }
    let there = match there.iter().any(MigInstance::is_left) {
        true => card.end_ours().and_then(|()| card.instances())?,
        false => there,
    };
    let room = Room::new(card.geometry, &there).map_err(|error| card.odd(&error.to_string()))?;
    let start = room.best_start(kind).map_err(|blocked| {
        let others: Vec<_> = there.iter().filter(|instance| is_foreign(instance)).collect();
        let short = format!("{blocked}{}", strangers(gpu, &others));
        Error::Full { gpu, profile: profile.clone(), short }
    })?;
    card.create(kind, start, &there)
}

/// Whether the vGPU at this VF is in a GPU instance of its profile's kind, that nothing else uses.
///
/// # Errors
/// Says which it is in.
pub(in crate::nvidia) fn check(
    host: &Host,
    gpu: PciAddress,
    profile: &ProfileName,
    vf: &Path,
) -> Result<(), Error> {
    let Some((card, kind)) = backing(host, gpu, profile)? else { return Ok(()) };
    let id = instance_of(vf)?;
    let there = card.instances()?;
    let backing = there.iter().find(|instance| Some(instance.id) == id);
    let others = card.others_in(id, vf)?;
    if backing.is_some_and(|instance| instance.place.kind() == kind)
        && others.is_empty()
        && !card.is_shared(id)?
    {
        return Ok(());
    }
    let shown = match (backing, id) {
        (Some(instance), _) if !others.is_empty() => {
            format!("is in {instance}, with the vGPU on VF {}", others.join(", "))
        }
        (Some(instance), _) if instance.place.kind() == kind => {
            format!("is in {instance}, which has compute instances of somebody else")
        }
        (Some(instance), _) => format!("is in {instance}"),
        (None, Some(id)) => format!("is in GPU instance {id}, which nvidia-smi does not list"),
        (None, None) => "is in no GPU instance".to_owned(),
    };
    Err(Error::ReadBack {
        device: format!("The vGPU at {}", vf.display()),
        wanted: format!("a {profile} in an instance of its own"),
        shown,
        way_out: "the driver chooses: take away what others made (`nvidia-smi mig -lgi`)",
    })
}

/// All GPU instances ended when VFs were turned on: those at the same places after it are somebody else's.
///
/// # Errors
/// Where the notes cannot be written.
pub(in crate::nvidia) fn forget(host: &Host, gpu: PciAddress) -> Result<(), Error> {
    match Card::find(host, gpu)? {
        Some(card) => card.notes().forget_instances(),
        None => Ok(()),
    }
}

/// Ends all GPU instances that vgpud made and nobody uses: what an attempt left that was interrupted.
///
/// # Errors
/// Where one is still there.
pub(in crate::nvidia) fn sweep(host: &Host, gpu: PciAddress) -> Result<(), Error> {
    let Some(card) = Card::find(host, gpu)? else { return Ok(()) };
    // Without a note there is nothing to look for, and nothing is run.
    if card.notes().read()?.is_without_instances() {
        return Ok(());
    }
    match card.mode()? {
        Some(MigMode::On) => card.end_ours(),
        Some(MigMode::Off) | None => card.notes().forget_instances(),
    }
}

fn backing<'a>(
    host: &'a Host,
    gpu: PciAddress,
    profile: &ProfileName,
) -> Result<Option<(Card<'a>, MigKind)>, Error> {
    let Some(card) = Card::find(host, gpu)? else { return Ok(None) };
    match kind_of(card.id, profile) {
        Some(kind) => Ok(Some((card, kind))),
        None if is_mig_backed(profile) => Err(Error::NoSuchProfile { gpu, profile: profile.clone() }),
        None => Ok(None),
    }
}

fn is_foreign(instance: &MigInstance) -> bool {
    !instance.ours && !matches!(instance.used_by, InstanceUse::Vgpu(_))
}

/// What somebody else has made, and how it would go.
fn strangers(gpu: PciAddress, others: &[&MigInstance]) -> String {
    let Some(first) = others.first() else { return String::new() };
    let names: Vec<_> = others.iter().map(ToString::to_string).collect();
    let compute = match first.used_by {
        InstanceUse::Compute => format!("`{}` and then ", called(gpu, SmiCommand::DestroyCompute(first.id))),
        InstanceUse::Nothing | InstanceUse::Vgpu(_) => String::new(),
    };
    format!(
        "; somebody else made {}: {compute}`{}` ends {}",
        names.join(", "),
        called(gpu, SmiCommand::Destroy(first.id)),
        if others.len() == 1 { "it" } else { "the first" }
    )
}

impl Card<'_> {
    /// None: it has no MIG after all.
    fn mode(&self) -> Result<Option<MigMode>, Error> {
        Ok(self.smi().mode()?.map(|mode| mode.current))
    }

    fn has_vfs(&self) -> Result<bool, Error> {
        Ok(PhysicalFunction { host: self.host, gpu: self.gpu }.enabled()? > 0)
    }

    /// MIG as it is now, after it was set as the settings ask where it can be.
    fn settle(&self) -> Result<Option<MigMode>, Error> {
        let Some(mode) = self.smi().mode()? else { return Ok(None) };
        let has_vfs = self.has_vfs()?;
        let wanted = self.host.mig(self.gpu).filter(|wanted| *wanted != mode.current && !has_vfs);
        let Some(wanted) = wanted else { return Ok(Some(mode.current)) };
        let notes = self.notes();
        // What it was at first stays known, however often it is tried.
        let first = notes.read()?.mode_before.is_none();
        if first {
            notes.mode_before(Some(mode.current))?;
        }
        match self.set_mode(wanted) {
            Ok(()) => Ok(Some(wanted)),
            Err(error) => {
                // One that waits for a reset is still known, so that it is taken back later.
                let undo = self.smi().mode().and_then(|now| {
                    let as_before = now.is_some_and(|now| now == mode);
                    if as_before && first { notes.mode_before(None) } else { Ok(()) }
                });
                Err(error.after_undo(&self.gpu, undo))
            }
        }
    }

    /// # Errors
    /// Where it is not so afterwards. A change that waits for a reset of the GPU is taken back.
    fn set_mode(&self, wanted: MigMode) -> Result<(), Error> {
        let Some(before) = self.smi().mode()? else { return Ok(()) };
        let command = SmiCommand::SetMode(wanted);
        let said = self.smi().change(command);
        // One that did not end in time may have done it.
        let Some(after) = self.smi().mode()? else { return Ok(()) };
        if after.current == wanted && after.pending == wanted {
            return Ok(());
        }
        let said = said?;
        if after.pending != wanted {
            let instead = format!("MIG is {}", after.current);
            return Err(self.not_done(&instead, command, &said, "end what uses the GPU and try again"));
        }
        let said = self.smi().change(SmiCommand::SetMode(before.current))?;
        let found = format!("MIG becomes {wanted} by a reset of the GPU alone, which vgpud leaves to you");
        let way_out = format!(
            "when nothing uses it, run `{}` and `nvidia-smi -i {} --gpu-reset`",
            called(self.gpu, command),
            self.gpu
        );
        let error = Error::Mig { gpu: self.gpu, found, way_out };
        let undone = self.smi().mode()?.is_none_or(|mode| mode.pending == before.current);
        let undo = match undone {
            true => Ok(()),
            false => Err(self.not_done(
                &format!("MIG will be {wanted} after a reset"),
                SmiCommand::SetMode(before.current),
                &said,
                "set it as you want it",
            )),
        };
        Err(error.after_undo(&self.gpu, undo))
    }

    fn not_done(&self, found: &str, command: SmiCommand, said: &Said, way_out: &str) -> Error {
        let found = format!("{found} after `{}`, which {said}", called(self.gpu, command));
        Error::Mig { gpu: self.gpu, found, way_out: way_out.to_owned() }
    }

    fn profile(&self, place: GpuInstance) -> Result<&'static GeometryProfile, Error> {
        let known = self.geometry.profile(place.class, place.attribute);
        known.ok_or_else(|| self.odd(&format!("no profile is known of {place}")))
    }

    fn create(&self, kind: MigKind, start: u8, before: &[MigInstance]) -> Result<(), Error> {
        let place = GpuInstance { class: kind.class, attribute: kind.attribute, start };
        let profile = self.profile(place)?.id;
        self.notes().add(profile, start)?;
        let command = SmiCommand::Create { profile, start };
        let said = self.smi().change(command);
        let there = self.instances()?;
        // There was none at the place before.
        let made = there.iter().find(|made| made.place == place);
        if let (Some(made), Ok(said)) = (made, &said)
            && said.success
            && listing::created(&said.words) == Some(made.id)
        {
            return Ok(());
        }
        self.notes().remove(profile, start)?;
        if let Some(made) = made {
            return Err(self.not_ours(made, command, said));
        }
        let is_new = |made: &MigInstance| !before.iter().any(|other| other.place == made.place);
        let shown = there
            .into_iter()
            .find(is_new)
            .map_or_else(|| "there is no new GPU instance".to_owned(), |made| format!("{made} is new"));
        let way_out = "see what else changes MIG (`nvidia-smi mig -lgi`)";
        Err(self.not_done(&format!("{shown}, and {place} was wanted,"), command, &said?, way_out))
    }

    /// What is where a GPU instance was to be made, and not named by the run that was to make it: somebody else's, or
    /// of a run that was cut short.
    fn not_ours(&self, made: &MigInstance, command: SmiCommand, said: Result<Said, Error>) -> Error {
        let way_out =
            format!("`{}` ends it where nobody needs it", called(self.gpu, SmiCommand::Destroy(made.id)));
        match said {
            Ok(said) => self.not_done(
                &format!("{made} is new, and not named by vgpud's own run,"),
                command,
                &said,
                &way_out,
            ),
            Err(error) => {
                let called = called(self.gpu, command);
                let why = error.with_causes();
                let found =
                    format!("{made} is new after `{called}`, which was cut short ({why}), and left alone");
                Error::Mig { gpu: self.gpu, found, way_out }
            }
        }
    }

    fn end(&self, instance: &MigInstance) -> Result<(), Error> {
        let (id, place) = (instance.id, instance.place);
        // The vGPU manager makes them for its guest, and may not have ended them.
        if instance.used_by == InstanceUse::Compute {
            self.smi().change(SmiCommand::DestroyCompute(id))?;
        }
        let command = SmiCommand::Destroy(id);
        let said = self.smi().change(command);
        if self.instances()?.iter().any(|other| other.place == place) {
            let found = format!("{instance} is still there");
            return Err(self.not_done(&found, command, &said?, "end what uses it and try again"));
        }
        self.notes().remove(self.profile(place)?.id, place.start)
    }

    fn end_ours(&self) -> Result<(), Error> {
        let there = self.instances()?;
        let mut places = Vec::new();
        for instance in &there {
            places.push((self.profile(instance.place)?.id, instance.place.start));
        }
        // Somebody else may have ended what is noted.
        self.notes().keep(&places)?;
        there.iter().filter(|instance| instance.is_left()).try_for_each(|instance| self.end(instance))
    }

    /// The other VFs whose vGPUs are in that GPU instance: a driver may put several of a smaller type into one.
    fn others_in(&self, id: Option<u32>, vf: &Path) -> Result<Vec<String>, Error> {
        let mut others = Vec::new();
        for (index, instance) in self.vgpus()? {
            let is_it = VirtualFunction::read(self.host, self.gpu, index)?
                .is_some_and(|other| self.host.pci_device(other.address) == vf);
            if Some(instance) == id && !is_it {
                others.push(index.0.to_string());
            }
        }
        Ok(others)
    }

    fn is_shared(&self, id: Option<u32>) -> Result<bool, Error> {
        let compute = self.smi().compute_instances()?;
        Ok(compute.iter().any(|compute| Some(compute.instance) == id))
    }

    fn is_empty(&self) -> Result<(), Error> {
        let there = self.instances()?;
        if there.is_empty() {
            return Ok(());
        }
        let instances = there.iter().map(ToString::to_string).collect();
        Err(Error::InUse { gpu: self.gpu, instances })
    }
}
