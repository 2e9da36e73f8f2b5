//! Private readers of outside bytes, for the crate in `fuzz/`.

use crate::{
    ConfigSpace, Memory, PciId, inventory::resource, mdev_bus::description, module_alias,
    nvidia::smi::listing, pci_ids::Names,
};

/// Of `modules.alias`, for a device with this `modalias`.
#[must_use]
pub fn vfio_module<'a>(aliases: &'a str, modalias: &str) -> Option<&'a str> {
    module_alias::best(aliases, modalias)
}

/// Of `pci.ids`: the names of a vendor and of its device.
#[must_use]
pub fn pci_names(id: PciId, text: &str) -> (Option<String>, Option<String>) {
    let Names { vendor, device } = Names::find(id, text);
    (vendor, device)
}

/// Of an mdev type's `description`.
#[must_use]
pub fn described_memory(description: &str) -> Option<Memory> {
    description::memory(description)
}

/// Of an mdev type's `description`.
#[must_use]
pub fn described_most(description: &str) -> Option<u32> {
    description::most(description)
}

/// Of a PF's config space.
#[must_use]
pub fn total_vfs(config: &ConfigSpace) -> Option<u16> {
    resource::total_vfs(config)
}

/// Of a PF's `resource` attribute.
#[must_use]
pub fn vf_aperture(resources: &str, total_vfs: u16) -> Option<Memory> {
    resource::vf_aperture(resources, total_vfs)
}

/// What `nvidia-smi` can be asked for.
#[derive(Clone, Copy, Debug)]
pub enum MigListing {
    Mode,
    Profiles,
    Instances,
    ComputeInstances,
}

impl MigListing {
    pub const ALL: [Self; 4] = [Self::Mode, Self::Profiles, Self::Instances, Self::ComputeInstances];
}

/// Of what `nvidia-smi mig -cgi` says.
#[must_use]
pub fn created_instance(text: &str) -> Option<u32> {
    listing::created(text)
}

/// How many rows such a text has.
///
/// # Errors
/// Where it is none.
pub fn mig_listing(of: MigListing, text: &str) -> Result<usize, impl std::error::Error + use<>> {
    match of {
        MigListing::Mode => listing::mode(text).map(|mode| usize::from(mode.is_some())),
        MigListing::Profiles => listing::profiles(text).map(|rows| rows.len()),
        MigListing::Instances => listing::instances(text).map(|rows| rows.len()),
        MigListing::ComputeInstances => listing::compute_instances(text).map(|rows| rows.len()),
    }
}
