//! PCIe access control services (ACS): whether a function sends what others would send past it to
//! the IOMMU. The kernel puts devices that it does not keep apart into one IOMMU group
//! (`pci_acs_enabled` in drivers/pci/pci.c, `pci_device_group` in drivers/iommu/iommu.c; PCI Express Base
//! Specification, 6.12 and 7.7.8). What the kernel knows of single chips beside this (drivers/pci/quirks.c)
//! is not repeated here.

use crate::{ConfigSpace, ExpressType, Extended};
use std::fmt;

const ACS: u16 = 0x0d;
const CAPABILITY: usize = 4;
const CONTROL: usize = 6;

/// What the kernel wants to be on (`REQ_ACS_FLAGS` in drivers/iommu/iommu.c), by its bit in both registers.
const SERVICES: [(u16, &str); 4] = [
    (0x01, "Source Validation"),
    (0x04, "P2P Request Redirect"),
    (0x08, "P2P Completion Redirect"),
    (0x10, "Upstream Forwarding"),
];

/// How a function keeps devices apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessControl {
    /// All that it must do is done, or there is nobody to keep apart.
    Complete,
    /// It has no such capability.
    Missing,
    /// It could, and these services are turned off.
    Off(Vec<&'static str>),
}

impl AccessControl {
    /// Of ports that lead down, and of a card's functions and upstream ports; of others nothing is said,
    /// nor where too little of config space is shown.
    #[must_use]
    pub fn of(config: &ConfigSpace) -> Option<Self> {
        match (config.express_type()?, config.is_one_of_several()?) {
            (ExpressType::Endpoint | ExpressType::UpstreamPort, false) => return Some(Self::Complete),
            (ExpressType::Other, _) => return None,
            (ExpressType::DownstreamPort, _) | (ExpressType::Endpoint | ExpressType::UpstreamPort, true) => {}
        }
        let at = match config.extended_capability(ACS) {
            Extended::At(at) => at,
            Extended::Absent => return Some(Self::Missing),
            Extended::NotShown => return None,
        };
        let (capability, control) = (config.word(at + CAPABILITY)?, config.word(at + CONTROL)?);
        // What is not among the capabilities cannot be turned off (`pci_acs_flags_enabled`).
        let off = SERVICES.iter().filter(|(bit, _)| capability & !control & bit != 0);
        let off: Vec<_> = off.map(|(_, name)| *name).collect();
        Some(if off.is_empty() { Self::Complete } else { Self::Off(off) })
    }
}

impl fmt::Display for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete access control (ACS)"),
            Self::Missing => f.write_str("no access control (ACS)"),
            Self::Off(services) => write!(f, "access control (ACS) without {}", services.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::function;

    const ROOT_PORT: u8 = 4;

    fn of(express_type: u8, functions: u8, acs: Option<(u16, u16)>) -> Option<AccessControl> {
        AccessControl::of(&function(express_type, functions, acs))
    }

    #[test]
    fn a_port_that_leads_down_needs_what_it_can_do() {
        for port in [ROOT_PORT, 6] {
            assert_eq!(of(port, 0, None), Some(AccessControl::Missing));
            assert_eq!(of(port, 0x81, Some((0x5f, 0x1d))), Some(AccessControl::Complete));
            // Translation Blocking and Egress Control are not asked for; what is hard-wired is on.
            assert_eq!(of(port, 0, Some((0x27, 0x05))), Some(AccessControl::Complete));
            assert_eq!(of(port, 0, Some((0, 0))), Some(AccessControl::Complete));
        }
        let off = of(ROOT_PORT, 0, Some((0x1f, 0x11))).unwrap();
        assert_eq!(off, AccessControl::Off(vec!["P2P Request Redirect", "P2P Completion Redirect"]));
        let said = "access control (ACS) without P2P Request Redirect, P2P Completion Redirect";
        assert_eq!(off.to_string(), said);
        let off = of(ROOT_PORT, 0, Some((0x1f, 0x0c))).unwrap();
        assert_eq!(off, AccessControl::Off(vec!["Source Validation", "Upstream Forwarding"]));
    }

    #[test]
    fn others_need_it_where_they_are_one_of_several() {
        for function in [0, 1, 5] {
            assert_eq!(of(function, 0, None), Some(AccessControl::Complete));
            assert_eq!(of(function, 0x80, None), Some(AccessControl::Missing));
        }
        for other in [7, 8, 9, 10] {
            assert_eq!(of(other, 0x80, None), None, "type {other}");
        }
        let conventional = ConfigSpace(vec![0; 256]);
        assert_eq!(AccessControl::of(&conventional), None);
    }

    #[test]
    fn too_little_is_said_nothing_of() {
        for acs in [None, Some((0x1f, 0)), Some((0x1f, 0x1f))] {
            let whole = function(ROOT_PORT, 0, acs);
            let shown = if acs.is_some() { 0x150 } else { 0x14c };
            assert_eq!(AccessControl::of(&ConfigSpace(whole.0[..shown].to_vec())), AccessControl::of(&whole));
            for short in [shown - 1, 0x100, 256, 64, 0] {
                assert_eq!(AccessControl::of(&ConfigSpace(whole.0[..short].to_vec())), None, "{short}");
            }
        }
        assert_eq!(AccessControl::of(&ConfigSpace(vec![0xff; 4096])), None, "no answer");
    }
}
