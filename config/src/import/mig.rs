//! Which vGPU type fills a GPU instance of MIG, by the catalogue: names of the two are never derived from
//! one another, for they differ (`1g.23gb` and `GB200-1-24C`).

use crate::{
    PciId, ProfileName, Quoted,
    catalogue::{Catalogue, VgpuSeries},
};

/// The compute type of a card on an instance of this profile.
///
/// # Errors
/// What is not known, and the way out.
pub fn vgpu_on(card: PciId, profile: &str) -> Result<ProfileName, String> {
    let catalogue = Catalogue::load().map_err(|error| error.to_string())?;
    let way_out = "name the vGPU type in the settings, as `vgpuctl profiles` does";
    let known = catalogue.mig_profiles(card).find(|known| known.name == profile);
    let known = known.ok_or_else(|| {
        format!("which size {} is on a card {card} is not known; {way_out}", Quoted(profile))
    })?;
    let mut types = catalogue.vgpus(card).filter(|vgpu| {
        vgpu.class == Some(known.class)
            && vgpu.attribute == known.attribute
            && vgpu.series == Some(VgpuSeries::C)
    });
    match (types.next(), types.next()) {
        (Some(only), None) => Ok(only.name.clone()),
        (None, _) => {
            Err(format!("no vGPU type for {} on a card {card} is known; {way_out}", Quoted(profile)))
        }
        (Some(_), Some(_)) => {
            Err(format!("several vGPU types for {} on a card {card} are known; {way_out}", Quoted(profile)))
        }
    }
}
