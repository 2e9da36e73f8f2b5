//! Memory of a VF that its vendor's driver clears when it is asked to.
//!
//! One driver has an interface for that which was seen to be honest in its source: GIM for the AMD
//! S7150 (GPUOpen MxGPU-Virtualization, drv/gim_monitor_ioctl.c and gim_monitor.c). A byte in decimal
//! that is written to the VF's attribute `clrvffb` is repeated over all of the VF's memory before the
//! write returns. The write succeeds whatever came of it; what the attribute reads afterwards is `OK`,
//! or else the beginning of a complaint, of which the driver may show nothing.
//!
//! Others are left alone. GIM 8.0 for the MI300X has an ioctl (`SMI_CMD_CODE_CLEAR_VF_FB`) that reports
//! success and clears nothing (libgv/core/amdgv_vfmgr.c). Intel's xe clears after each reset, unasked.

use crate::{ClearOutcome, Error, Host, PciAddress, attribute};
use std::path::{Path, PathBuf};
use vgpud_config::Quoted;

const ATTRIBUTE: &str = "clrvffb";

/// Where a VF's sysfs folder has it, if its driver offers it.
pub(crate) fn attribute_of(vf: &Path) -> PathBuf {
    vf.join(ATTRIBUTE)
}

pub(crate) fn clear(host: &Host, vf: PciAddress) -> Result<ClearOutcome, Error> {
    let path = attribute_of(&host.pci_device(vf));
    if !attribute::exists(&path) {
        return Ok(ClearOutcome::NotOffered);
    }
    host.write_attr(&path, "0")?;
    match attribute::read(&path)? {
        Some(answer) if answer == "OK" => Ok(ClearOutcome::Reported { by: ATTRIBUTE }),
        answer => Err(Error::ReadBack {
            device: format!("{ATTRIBUTE} of {vf}"),
            wanted: "a clear of its memory".to_owned(),
            shown: match answer {
                Some(answer) => format!("reads {}", Quoted(&answer)),
                None => "is gone".to_owned(),
            },
            way_out: "the kernel log says why (`dmesg`)",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Kernel;
    use nix::errno::Errno;
    use std::{fs, io, sync::Arc, time::Duration};

    const VF: &str = "0000:41:02.0";

    /// A driver that answers a request by this text, or refuses it.
    #[derive(Debug)]
    struct Driver(Result<&'static str, Errno>);

    impl Kernel for Driver {
        fn write(&self, path: &Path, value: &str) -> io::Result<()> {
            assert_eq!(value, "0", "the byte that is written over the memory");
            fs::write(path, self.0?)
        }

        fn pause(&self, _: Duration) {}
    }

    fn asked(driver: Driver) -> Result<ClearOutcome, Error> {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).with_kernel(Arc::new(driver));
        let folder = host.pci_device(VF.parse().unwrap());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(ATTRIBUTE), "").unwrap();
        clear(&host, VF.parse().unwrap())
    }

    #[test]
    fn a_driver_without_the_attribute_offers_no_clear() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(clear(&Host::new(root.path()), VF.parse().unwrap()).unwrap(), ClearOutcome::NotOffered);
    }

    #[test]
    fn only_what_the_attribute_says_afterwards_counts() {
        assert_eq!(asked(Driver(Ok("OK\n"))).unwrap(), ClearOutcome::Reported { by: "clrvffb" });
        for complaint in
            ["", "Fai", "Failed to do clrvffb with error: The VF is in use. FB can't be cleared\n"]
        {
            let said = asked(Driver(Ok(complaint))).unwrap_err().to_string();
            assert!(said.contains(&format!("reads {:?}", complaint.trim())), "{said}");
        }
        let said = asked(Driver(Ok("x".repeat(5000).leak()))).unwrap_err().to_string();
        assert!(said.contains("reads \"xxx") && said.len() < 300, "{said}");
        assert!(matches!(asked(Driver(Err(Errno::EIO))), Err(Error::Write { .. })));
    }
}
