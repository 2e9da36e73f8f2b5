//! A fleet of cards from the catalogue, all empty. What they can be cut into is what vgpud's mechanisms say
//! of them.

use vgpud::engine::placement::{Emptying, GpuView};
use vgpud_config::{
    Memory, PciAddress, PciId,
    catalogue::{Card, Catalogue},
};
use vgpud_mdev::{
    DriverName, Gpu, MechanismKind, SriovCapability, XeInterface, XeProvisioning, nvidia::NvidiaVgpu,
};

/// Cards in turn of address, so that no chooser is helped by their order. Time-sliced vGPUs of one size a
/// card, VFs in equal shares, and VFs whose number is the operator's.
const MODELS: [Model; 8] = [
    Model { card: "10de:26b9", cut: Cut::EqualSize },
    Model { card: "8086:56c0", cut: Cut::EqualShares },
    Model { card: "10de:2236", cut: Cut::EqualSize },
    Model { card: "1002:74a1", cut: Cut::Fixed(8) },
    Model { card: "10de:2235", cut: Cut::EqualSize },
    Model { card: "8086:56c0", cut: Cut::EqualShares },
    Model { card: "10de:20b0", cut: Cut::EqualSize },
    Model { card: "10de:26b9", cut: Cut::EqualSize },
];

struct Model {
    /// Its id in the catalogue.
    card: &'static str,
    cut: Cut,
}

/// What decides how it is cut.
enum Cut {
    /// NVIDIA's driver: all vGPUs of a card have the size of the first.
    EqualSize,
    /// Intel's xe: as many VFs as are asked for first, memory in equal shares.
    EqualShares,
    /// AMD's GIM: that many VFs, made when it was loaded.
    Fixed(u16),
}

/// That many cards.
pub fn fleet(count: u8) -> Result<Vec<GpuView>, String> {
    let catalogue = Catalogue::load().map_err(|error| error.to_string())?;
    (0..count).zip(MODELS.iter().cycle()).map(|(bus, model)| model.gpu(bus, &catalogue)).collect()
}

impl Model {
    fn gpu(&self, bus: u8, catalogue: &Catalogue) -> Result<GpuView, String> {
        let lacks = |what: &str| format!("the catalogue has no {what} of {}", self.card);
        let id: PciId = self.card.parse().map_err(|error| format!("{error}"))?;
        let card = catalogue.card(id).ok_or_else(|| lacks("card"))?;
        let address: PciAddress =
            format!("0000:{bus:02x}:00.0").parse().map_err(|error| format!("{error}"))?;
        let memory = memory(catalogue, id, card).ok_or_else(|| lacks("memory"))?;
        let total = card.vfs.as_ref().ok_or_else(|| lacks("number of VFs"))?.value;
        let mut sriov = SriovCapability { total, enabled: 0, bound: 0, vf_aperture: None };
        let mut gpu = Gpu { numa_node: Some(u32::from(bus) % 2), ..Gpu::new(address, id, 0x03_0200) };
        let (kind, driver) = match self.cut {
            Cut::EqualSize => {
                let sriov_manage = "/usr/lib/nvidia/sriov-manage".into();
                gpu.nvidia = Some(NvidiaVgpu::Off { sriov_manage, lacks: Vec::new() });
                (MechanismKind::NvidiaVfio, "nvidia")
            }
            Cut::EqualShares => {
                let interface = XeInterface::SriovAdmin;
                gpu.xe = Some(XeProvisioning {
                    interface,
                    vram: Some(memory),
                    quota: None,
                    settable: true,
                    strict: false,
                    even_turns: false,
                });
                (MechanismKind::IntelXe, "xe")
            }
            Cut::Fixed(count) => {
                sriov.enabled = count;
                sriov.vf_aperture = Some(Memory::from_bytes(memory.bytes() / u64::from(count)));
                (MechanismKind::AmdGim, "gim")
            }
        };
        gpu.sriov = Some(sriov);
        gpu.driver = Some(DriverName(driver.to_owned()));
        if let Some(why) = vgpud_mdev::mechanism(kind).unusable(&gpu) {
            return Err(format!("{} cannot be cut: {why}", self.card));
        }
        Ok(GpuView::new(gpu, Ok(kind), Vec::new(), Emptying::BySlices))
    }
}

fn memory(catalogue: &Catalogue, id: PciId, card: &Card) -> Option<Memory> {
    let named = card.memory.as_ref().map(|memory| memory.value);
    named.or_else(|| Some(catalogue.provisioning(id)?.memory))
}
