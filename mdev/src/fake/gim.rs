//! Partitions of an MI300X on gim: gim_shim/sysfs/gim_monitor.c, and libgv for what goes together.

use super::{
    gpu::Personality,
    kernel::{FakeKernel, State, folder},
    virtual_function::vf_address,
};
use crate::PciAddress;
use nix::errno::Errno;

/// A compute mode with the memory modes that it goes with; the place is its index.
type Way = (&'static str, &'static [&'static str]);

fn ways(vf_num: u16) -> &'static [Way] {
    match vf_num {
        1 => &[("SPX", &["NPS1"]), ("CPX", &["NPS1", "NPS4"])],
        2 => &[("DPX", &["NPS1"]), ("CPX", &["NPS1"])],
        4 => &[("QPX", &["NPS1", "NPS4"]), ("CPX", &["NPS1", "NPS4"])],
        _ => &[("CPX", &["NPS1", "NPS4"])],
    }
}

impl FakeKernel {
    /// As somebody has set it: the last of the compute modes, and the last memory mode that it goes with.
    pub(super) fn gim_files(&self, gpu: PciAddress, vf_num: u16) {
        let mut table =
            String::from("resource_profiles:\nresource_index  resource_type\n0  XCC\nprofiles:\n");
        table += "profile_index  profile_type  num_of_partitions  memory_caps\n";
        for (index, (word, memory)) in ways(vf_num).iter().enumerate() {
            table += &format!("{index}  {word}  8  {}  1  [[0 ]]\n", memory.join(" "));
        }
        self.tree().text(&format!("{}/accelerator_partition_profile_config", folder(gpu)), &table);
        let index = ways(vf_num).len() - 1;
        let memory = ways(vf_num)[index].1.last().unwrap();
        self.show_modes(gpu, vf_num, index, memory);
    }

    fn show_modes(&self, gpu: PciAddress, vf_num: u16, index: usize, memory: &str) {
        let (folder, word) = (folder(gpu), ways(vf_num)[index].0);
        let text = |name: &str, content: &str| self.tree().text(&format!("{folder}/{name}"), content);
        text("accelerator_partition_profile", &format!("profile_index  profile_type\n{index}  {word}"));
        text("memory_partition_mode", &format!("memory_partition_mode: {memory}\nnuma_count: 1"));
        text("spatial_partition_mode", word);
    }

    fn memory_of(&self, gpu: PciAddress) -> String {
        let text = self.tree().read(&format!("{}/memory_partition_mode", folder(gpu))).unwrap();
        text.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// The hive, unless a VF of it is in use: then gim says so in the kernel log alone.
    fn free_hive(state: &State) -> Vec<(PciAddress, u16)> {
        let mut hive = Vec::new();
        for gpu in state.gpus.values() {
            let Personality::Gim { vf_num } = gpu.personality else { continue };
            if (0..vf_num).any(|index| state.held.contains(&vf_address(gpu, index).to_string())) {
                return Vec::new();
            }
            hive.push((gpu.address, vf_num));
        }
        hive
    }

    /// With a memory mode comes the first compute mode that goes with it.
    pub(super) fn set_memory_mode(&self, state: &State, value: &str) -> Result<(), Errno> {
        let memory = match value {
            "NPS1" | "NPS2" | "NPS4" => value,
            "NPS8" => "NPS4",
            _ => return Err(Errno::EINVAL),
        };
        for (gpu, vf_num) in Self::free_hive(state) {
            let first = ways(vf_num).iter().position(|(_, modes)| modes.contains(&memory));
            if let Some(index) = first.filter(|_| self.memory_of(gpu) != memory) {
                self.show_modes(gpu, vf_num, index, memory);
            }
        }
        Ok(())
    }

    pub(super) fn set_profile(&self, state: &State, value: &str) -> Result<(), Errno> {
        let index: usize = value.parse().map_err(|_| Errno::EINVAL)?;
        for (gpu, vf_num) in Self::free_hive(state) {
            let memory = self.memory_of(gpu);
            if ways(vf_num).get(index).is_some_and(|(_, modes)| modes.contains(&memory.as_str())) {
                self.show_modes(gpu, vf_num, index, &memory);
            }
        }
        Ok(())
    }
}
