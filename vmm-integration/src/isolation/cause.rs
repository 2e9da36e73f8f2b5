//! Why devices share an IOMMU group: what of the way from a device up to the processor does not keep them
//! apart (kernel: `pci_device_group` in drivers/iommu/iommu.c).
//!
//! A function joins the group of the port above it where from there on up something lacks access control
//! (ACS), and functions of one card without it share one group. So the uppermost port of the group that
//! lacks it is the cause. Where that cannot be seen, or the kernel may have had another reason, nothing is
//! said.

use super::Stranger;
use std::{fmt, path::Path};
use vgpud_mdev::{AccessControl, ConfigSpace, ExpressType, Host, PciAddress, attribute};

/// What does not keep the devices of a group apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A port on the way up from the device: of a switch, or of the processor.
    Port { port: PciAddress, has: AccessControl },
    /// The card that the device is a function of, beside the strangers.
    Card { function: PciAddress, has: AccessControl },
}

impl Cause {
    /// What to do. Whoever patches a kernel so that it knows `pcie_acs_override` parts the groups and not
    /// the devices; what `disable_acs_redir` and `config_acs` do says the kernel's
    /// Documentation/admin-guide/kernel-parameters.txt.
    pub(super) fn mend(&self) -> &'static str {
        match self {
            Self::Port { has: AccessControl::Off(_), .. } => {
                "take disable_acs_redir and config_acs from the kernel command line and reboot, or unbind what the \
                 host can spare or bind it to vfio-pci"
            }
            Self::Port { .. } => {
                "turn on ACS in the firmware (BIOS), move the card to a slot whose port has it, or unbind what the \
                 host can spare or bind it to vfio-pci; pcie_acs_override is no way out, as it isolates nothing"
            }
            Self::Card { .. } => {
                "unbind them or bind them to vfio-pci; no other slot parts a card's functions"
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { port, has } => write!(f, "PCIe port {port} above it has {has}"),
            Self::Card { function, has } => write!(f, "{function} is on one card with them and has {has}"),
        }
    }
}

/// Why the device in the sysfs folder `device` shares its group with `strangers`.
pub(super) fn cause(
    host: &Host,
    device: &Path,
    strangers: &[Stranger],
) -> Result<Option<Cause>, vgpud_mdev::Error> {
    let group = attribute::link(&device.join("iommu_group"))?;
    let Some(folder) = attribute::folder(device)? else { return Ok(None) };
    // In sysfs a function's folder is inside that of the bridge above it.
    let mut members = Vec::new();
    for folder in folder.ancestors() {
        let name = folder.file_name().and_then(|name| name.to_str());
        let Some(address) = name.and_then(|name| name.parse::<PciAddress>().ok()) else { break };
        if attribute::link(&folder.join("iommu_group"))? != group {
            break;
        }
        members.push(address);
    }
    let Some((function, bridges)) = members.split_first() else { return Ok(None) };
    for port in bridges.iter().rev() {
        let config = config(host, *port);
        match AccessControl::of(&config) {
            Some(AccessControl::Complete) => {}
            Some(has) if config.express_type() == Some(ExpressType::DownstreamPort) => {
                return Ok(Some(Cause::Port { port: *port, has }));
            }
            Some(_) | None => return Ok(None),
        }
    }
    // The kernel counts no VF among its card's functions (drivers/pci/iov.c, `pci_iov_add_virtfn`).
    let beside = |stranger: &Stranger| stranger.device.parse().is_ok_and(|other| function.is_beside(other));
    if attribute::exists(&folder.join("physfn")) || !strangers.iter().all(beside) {
        return Ok(None);
    }
    let has = AccessControl::of(&config(host, *function));
    let has = has.filter(|has| *has != AccessControl::Complete);
    Ok(has.map(|has| Cause::Card { function: *function, has }))
}

/// Nothing where it cannot be read: that hides the cause and not the strangers.
fn config(host: &Host, function: PciAddress) -> ConfigSpace {
    let config = host.config_space(function).unwrap_or_else(|error| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the cause of a shared IOMMU group is not seen"
        );
        None
    });
    config.unwrap_or_default()
}
