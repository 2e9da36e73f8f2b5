//! What devices show, and the process that works on one reports.

use crate::message;
use vgpud_mdev::{
    AccessControl, ConfigSpace,
    fuzzing::{total_vfs, vf_aperture},
};

/// A function's config space, of 64, 256 or 4096 bytes, or cut short.
pub fn pci_config(data: &[u8]) {
    let config = ConfigSpace(data[..data.len().min(4096)].to_vec());
    let capabilities = config.capabilities();
    assert!(capabilities.len() <= 48, "more capabilities than there is room for");
    let mut places: Vec<_> = capabilities.iter().map(|(_, at)| *at).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), capabilities.len(), "one capability twice");
    assert!(places.iter().all(|at| (0x40..config.0.len()).contains(at)));
    assert!(config.msix_bars().iter().all(|bar| *bar < 8));
    let bars = (0..8).filter(|index| config.bar(*index).is_some()).count();
    assert!(bars <= 6);
    let _ = (config.id(), config.header_type(), config.command());
    let _ = total_vfs(&config);
    access_control(&config);
}

/// Who is shown less may see less, and nothing else.
fn access_control(config: &ConfigSpace) {
    let whole = AccessControl::of(config);
    if let Some(AccessControl::Off(services)) = &whole {
        assert!((1..=4).contains(&services.len()));
    }
    for shown in [64, 256, config.0.len() / 2, config.0.len().saturating_sub(1)] {
        let part = ConfigSpace(config.0[..shown.min(config.0.len())].to_vec());
        let part = AccessControl::of(&part);
        assert!(part.is_none() || part == whole, "{part:?} of {shown} bytes, {whole:?} of all");
    }
}

/// A PF's `resource` attribute behind TotalVFs in two bytes.
pub fn pci_resource(data: &[u8]) {
    let Some((total, resources)) = data.split_first_chunk::<2>() else { return };
    let total = u16::from_le_bytes(*total);
    if let Some(aperture) = vf_aperture(&crate::text(resources), total) {
        assert!(total > 0 && aperture.bytes().is_power_of_two());
        assert_eq!(aperture.to_string().parse(), Ok(aperture));
    }
}

/// The kernel's answer to VFIO_DEVICE_GET_REGION_INFO: the structure and its capabilities.
pub fn vfio_region(data: &[u8]) {
    let Some(region) = vgpud_vmm::fuzzing::region(data) else { return };
    let mut end = 0;
    for area in &region.mappable {
        assert!(area.size > 0 && area.offset >= end, "{area:?} begins before {end:#x}, where the last ends");
        end = area.offset.checked_add(area.size).unwrap();
        assert!(end <= region.size, "an area beyond the region: {area:?}");
    }
    assert!(region.mappable_bytes() <= region.size);
}

/// A line of the process that works on a device.
pub fn device_report(data: &[u8]) {
    let line = crate::text(data);
    if let Err(error) = vgpud_vmm::fuzzing::report(&line) {
        message::check_error(&error, &line);
    }
}
