//! A tenant that is a small VFIO program: it opens the node of its lease, as a VMM does, and writes or
//! reads all of the memory.

use serde_json::Value;
use std::path::Path;
use vgpud_mdev::Host;
use vgpud_vmm::{
    device::{Device, Mapping},
    node::Node,
};

const SECRET: [u8; 8] = *b"tenant A";

/// A tenant that has its slice open.
#[derive(Debug)]
pub struct Tenant {
    device: Device,
}

impl Tenant {
    /// Opens a slice by the node that was handed over with its lease.
    #[track_caller]
    pub fn open(slice: &Value) -> Self {
        let sysfs = Path::new(slice["sysfs_path"].as_str().unwrap());
        let node = Node::from_path(slice["lease"]["node"].as_str().unwrap()).unwrap();
        let device = Device::open(&Host::default(), &node, sysfs).unwrap();
        device.enable_memory().unwrap();
        Self { device }
    }

    fn memory(&self) -> Mapping {
        let region = &self.device.regions()[0];
        self.device.map(region, region.mappable[0]).unwrap()
    }

    /// Writes all of its memory; returns how much that is.
    pub fn write(&self) -> u64 {
        let memory = self.memory();
        memory.fill(SECRET);
        assert_eq!(memory.non_zero().bytes, memory.length() as u64, "written");
        memory.length() as u64
    }

    /// Bytes that somebody left in its memory.
    pub fn found(&self) -> u64 {
        self.memory().non_zero().bytes
    }
}
