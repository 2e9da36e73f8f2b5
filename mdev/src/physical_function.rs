//! A GPU as the one that makes VFs, through the PCI core's attributes.

use crate::{Error, Host, PciAddress, VfIndex, attribute, virtual_function::VirtualFunction};
use vgpud_config::Shown;

/// The GPU as the one that makes VFs.
pub(crate) struct PhysicalFunction<'a> {
    pub(crate) host: &'a Host,
    pub(crate) gpu: PciAddress,
}

pub(crate) enum VfsBefore {
    Enabled,
    /// And `sriov_drivers_autoprobe` was this.
    None {
        autoprobe: String,
    },
}

impl PhysicalFunction<'_> {
    fn attribute(&self, name: &str) -> std::path::PathBuf {
        self.host.pci_device(self.gpu).join(name)
    }

    fn count(&self, name: &str) -> Result<u16, Error> {
        let count = attribute::parse(&self.attribute(name), "a number of VFs")?;
        count.ok_or_else(|| match attribute::exists(&self.host.pci_device(self.gpu)) {
            true => Error::Unusable { gpu: self.gpu, why: "it has no SR-IOV capability".to_owned() },
            false => Error::NoSuchGpu(self.gpu),
        })
    }

    pub(crate) fn total(&self) -> Result<u16, Error> {
        self.count("sriov_totalvfs")
    }

    pub(crate) fn enabled(&self) -> Result<u16, Error> {
        self.count("sriov_numvfs")
    }

    /// Makes `wanted` VFs exist, where none or as many do.
    pub(crate) fn enable(&self, wanted: u16) -> Result<VfsBefore, Error> {
        let (gpu, total) = (self.gpu, self.total()?);
        if wanted > total {
            return Err(Error::TooManyVfs { gpu, total, wanted });
        }
        match self.enabled()? {
            0 => {}
            enabled if enabled == wanted => return Ok(VfsBefore::Enabled),
            enabled => return Err(Error::OtherVfCount { gpu, enabled, wanted }),
        }
        let autoprobe = self.attribute("sriov_drivers_autoprobe");
        let before = attribute::read(&autoprobe)?.unwrap_or_else(|| "1".to_owned());
        let made = || {
            self.set_autoprobe("0")?;
            self.host.write_attr(&self.attribute("sriov_numvfs"), &wanted.to_string())?;
            match self.enabled()? {
                enabled if enabled == wanted => Ok(()),
                enabled => Err(Error::FewerVfs { gpu, enabled, wanted }),
            }
        };
        match made() {
            Ok(()) => Ok(VfsBefore::None { autoprobe: before }),
            Err(error) => Err(error.after_undo(&gpu, self.take_back(&before))),
        }
    }

    /// VF index `index`; the kernel makes all links before the write of the count returns, but the
    /// VF's driver core may still be at work.
    pub(crate) fn wait_for_vf(&self, index: VfIndex) -> Result<VirtualFunction, Error> {
        let what = || format!("VF {} of GPU {}", index.0, self.gpu);
        self.host.wait_for(what, || VirtualFunction::read(self.host, self.gpu, index))
    }

    fn set_autoprobe(&self, value: &str) -> Result<(), Error> {
        let path = self.attribute("sriov_drivers_autoprobe");
        self.host.write_attr(&path, value)?;
        match attribute::read(&path)? {
            Some(now) if now == value => Ok(()),
            now => Err(Error::ReadBack {
                device: format!("sriov_drivers_autoprobe of GPU {}", self.gpu),
                wanted: value.to_owned(),
                shown: now.map_or_else(|| "is gone".to_owned(), |now| format!("reads {}", Shown(&now))),
                way_out: "something else sets it",
            }),
        }
    }

    pub(crate) fn disable(&self, autoprobe: &str) -> Result<(), Error> {
        if self.enabled()? != 0 {
            self.host.write_attr(&self.attribute("sriov_numvfs"), "0")?;
        }
        let enabled = self.enabled()?;
        if enabled != 0 {
            return Err(Error::ReadBack {
                device: format!("GPU {}", self.gpu),
                wanted: "no VFs".to_owned(),
                shown: format!("has {enabled} VFs"),
                way_out: "the kernel log says why (`dmesg`)",
            });
        }
        self.set_autoprobe(autoprobe)
    }

    /// Undoes [`enable`](Self::enable). A GPU that has gone has taken its VFs with it.
    pub(crate) fn take_back(&self, autoprobe: &str) -> Result<(), Error> {
        let there = attribute::exists(&self.host.pci_device(self.gpu));
        if there { self.disable(autoprobe) } else { Ok(()) }
    }
}
