//! Handing a slice over to container runtimes: CDI files, and the part of the host's health that
//! they depend on.
//!
//! # What Kata Containers takes, and what not
//!
//! Read in the sources of Kata 4.1.0 (both runtimes, with QEMU) and, where said so, run:
//!
//! | slice | Kata takes it |
//! | --- | --- |
//! | a VF on vfio-pci or on a vendor's VFIO driver, alone in its IOMMU group | yes, run with runtime-rs |
//! | a mediated device | **no**: runtime-rs refuses it ("IOMMU group … contains no PCI devices"), the Go runtime attaches the parent's address (kata-containers#10681). A launcher in front of QEMU that adds the device works; vgpud does not bring one yet |
//! | two functions in one group | no: both get one port and one id |
//!
//! - It takes one node a device, group or cdev, under the same path in host and container. More
//!   nodes in the CDI file (`/dev/vfio/vfio`, `/dev/iommu`, or both kinds at once) end in
//!   "Invalid VFIO group path" or in a timeout that says nothing of the cause.
//! - runtime-rs opens every device through iommufd, so `/dev/iommu` must exist even for a group
//!   node; without it a sandbox fails after 51 s with "timed out waiting for QMP ready".
//! - `cold_plug_vfio = "root-port"` must be set; with the shipped default the container cannot be
//!   created. In Kubernetes, `pod_resource_api_sock` too.
//! - Kata never unbinds a device, and a killed shim leaves its QEMU running: a slice is free when
//!   nobody holds its node, whatever containerd says.
//! - One broken `*.json` or `*.yaml` in a CDI folder fails every sandbox that asks for a CDI
//!   device, so a file appears here whole by rename, and [`doctor`] looks at those of others.

#![forbid(unsafe_code)]

pub mod cdi;
pub mod doctor;
