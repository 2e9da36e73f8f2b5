//! The simulated GPUs and their knobs (tests/lab/kmod/README.md).

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Models by their PCI ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    Mi300x,
    Flex170,
    S7150,
    /// The last of that model on the host.
    S7150Blind,
    Sim,
    Simmdev,
    Rtx5070,
    T4,
    L40s,
    A100,
    B580,
    B60,
}

impl Model {
    fn ids(self) -> (&'static str, &'static str) {
        match self {
            Self::Mi300x => ("0x1002", "0x74a1"),
            Self::Flex170 => ("0x8086", "0x56c0"),
            Self::S7150 | Self::S7150Blind => ("0x1002", "0x6929"),
            Self::Sim => ("0x1234", "0x51a0"),
            Self::Simmdev => ("0x1234", "0x51a1"),
            Self::Rtx5070 => ("0x10de", "0x2f04"),
            Self::T4 => ("0x10de", "0x1eb8"),
            Self::L40s => ("0x10de", "0x26b9"),
            Self::A100 => ("0x10de", "0x20b5"),
            Self::B580 => ("0x8086", "0xe20b"),
            Self::B60 => ("0x8086", "0xe211"),
        }
    }
}

/// One simulated GPU of this host.
#[derive(Debug, Clone)]
pub struct SimGpu {
    pub address: String,
}

/// A function's part of VRAM.
#[derive(Debug, Clone, Copy)]
struct Window {
    offset: u64,
    size: u64,
}

impl SimGpu {
    /// The first of this model.
    #[track_caller]
    pub fn find(model: Model) -> Self {
        let (vendor, device) = model.ids();
        let is = |path: &Path, file: &str, id: &str| {
            fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim() == id)
        };
        let mut found: Vec<_> = fs::read_dir("/sys/bus/pci/devices")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                is(path, "vendor", vendor) && is(path, "device", device) && !path.join("physfn").is_symlink()
            })
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort();
        let found = if matches!(model, Model::S7150Blind) { found.last() } else { found.first() };
        Self { address: found.unwrap_or_else(|| panic!("no {model:?} on this host")).clone() }
    }

    /// All whose PF driver is in this kernel module, in the order of their addresses.
    #[track_caller]
    pub fn of_driver(module: &str) -> Vec<Self> {
        let mut found: Vec<_> = fs::read_dir("/sys/kernel/debug/simgpu")
            .unwrap()
            .map(|entry| Self { address: entry.unwrap().file_name().to_string_lossy().into_owned() })
            .filter(|gpu| gpu.knob("driver") == module)
            .collect();
        found.sort_by(|one, other| one.address.cmp(&other.address));
        found
    }

    pub fn sysfs(&self, file: &str) -> PathBuf {
        Path::new("/sys/bus/pci/devices").join(&self.address).join(file)
    }

    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        let path = self.sysfs(file);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned()
    }

    /// The driver that its physical function is on.
    pub fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.sysfs("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    pub fn knob_path(&self, knob: &str) -> PathBuf {
        Path::new("/sys/kernel/debug/simgpu").join(&self.address).join(knob)
    }

    /// Turns a knob; it goes back to `after` when the returned guard is dropped.
    #[track_caller]
    pub fn set(&self, knob: &str, value: &str, after: &'static str) -> Turned {
        self.turn(knob, value);
        Turned { gpu: self.clone(), knob: knob.to_owned(), after }
    }

    #[track_caller]
    pub fn turn(&self, knob: &str, value: &str) {
        let path = self.knob_path(knob);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{} = {value}: {error}", path.display()));
    }

    #[track_caller]
    pub fn knob(&self, knob: &str) -> String {
        fs::read_to_string(self.knob_path(knob)).unwrap().trim().to_owned()
    }

    /// How often its functions and mediated devices were reset so far.
    #[track_caller]
    pub fn resets(&self) -> u64 {
        self.counter("flr")
    }

    /// One of the GPU's counters.
    #[track_caller]
    pub fn counter(&self, what: &str) -> u64 {
        let counters = self.knob("counters");
        let count = counters.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
        count.unwrap_or_else(|| panic!("no counter {what}")).trim().parse().unwrap()
    }

    /// The windows of VRAM, by slice name as vgpuctl shows it: VF index or mdev UUID.
    fn window_of_vf(&self, index: u32) -> Window {
        let windows = self.knob("windows");
        let line =
            windows.lines().find(|line| line.starts_with(&format!("{index} "))).expect("window of the VF");
        let mut numbers = line.split_whitespace().skip(1).map(|number| number.parse().unwrap());
        Window { offset: numbers.next().unwrap(), size: numbers.next().unwrap() }
    }

    /// Writes at the start of a VF's memory, as if a tenant had.
    #[track_caller]
    pub fn write_vram(&self, vf: u32, bytes: &[u8]) {
        let vram = fs::File::options().write(true).open(self.knob_path("vram")).unwrap();
        vram.write_all_at(bytes, self.window_of_vf(vf).offset).unwrap();
    }

    /// What stands at the start of a VF's memory.
    #[track_caller]
    pub fn read_vram(&self, vf: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let vram = fs::File::open(self.knob_path("vram")).unwrap();
        vram.read_exact_at(&mut bytes, self.window_of_vf(vf).offset).unwrap();
        bytes
    }

    fn window_of_mdev(uuid: &str) -> Window {
        let read = |file: &str| {
            let path = format!("/sys/bus/mdev/devices/{uuid}/simgpu/{file}");
            fs::read_to_string(path).unwrap().trim().parse().unwrap()
        };
        Window { offset: read("vram_offset"), size: read("vram_size") }
    }

    /// The index of the VF with this PCI address.
    #[track_caller]
    pub fn vf_index(&self, address: &str) -> u32 {
        let points_there = |index: &u32| {
            fs::read_link(self.sysfs(&format!("virtfn{index}"))).is_ok_and(|target| target.ends_with(address))
        };
        (0..64).find(points_there).unwrap_or_else(|| panic!("{address} is no VF of {}", self.address))
    }

    /// The texts that stand at the head of the pages of one slice's VRAM, without repeats.
    #[track_caller]
    pub fn texts(&self, slice: &serde_json::Value) -> Vec<String> {
        let window = match (slice["address"].as_str(), slice["mdev_uuid"].as_str()) {
            (Some(address), _) => self.window_of_vf(self.vf_index(address)),
            (_, Some(uuid)) => Self::window_of_mdev(uuid),
            _ => panic!("{slice} has neither address nor UUID"),
        };
        let vram = fs::File::open(self.knob_path("vram")).unwrap();
        let mut bytes = vec![0; window.size.try_into().unwrap()];
        vram.read_exact_at(&mut bytes, window.offset).unwrap();
        let mut texts = Vec::new();
        for page in bytes.chunks(4096) {
            let head = &page[..64];
            let end = head.iter().position(|byte| *byte == 0).unwrap_or(head.len());
            let text = String::from_utf8_lossy(&head[..end]).into_owned();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }
}

/// Puts a knob back.
#[derive(Debug)]
#[must_use = "the knob goes back when this is dropped"]
pub struct Turned {
    gpu: SimGpu,
    knob: String,
    after: &'static str,
}

impl Drop for Turned {
    fn drop(&mut self) {
        // The GPU may be unplugged by now; a test that needs the knob sets it itself.
        let _ = fs::write(self.gpu.knob_path(&self.knob), self.after);
    }
}
