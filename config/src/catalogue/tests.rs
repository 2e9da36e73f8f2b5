use super::*;
use crate::Memory;

fn catalogue() -> Catalogue {
    Catalogue::load().unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

fn id(text: &str) -> PciId {
    text.parse().unwrap()
}

const GIB: u64 = 1 << 30;

#[test]
fn every_row_is_read_and_every_source_is_used() {
    let catalogue = catalogue();
    let mut used = std::collections::BTreeSet::new();
    for file in FILES {
        let written: Written = toml::from_str(file.text).unwrap();
        used.extend(check::sources(&written).into_iter().map(str::to_owned));
    }
    let known: std::collections::BTreeSet<_> = catalogue.sources.keys().cloned().collect();
    assert_eq!(used, known);
    assert!(catalogue.sources.values().all(|source| source.len() > 20), "{:?}", catalogue.sources);
    let count = |vendor: u16| catalogue.cards().filter(|(id, _)| id.vendor == vendor).count();
    assert_eq!((count(0x10de), count(0x1002), count(0x8086)), (53, 19, 26));
    let types: usize = catalogue.cards().map(|(id, _)| catalogue.vgpus(id).count()).sum();
    // The driver's 265 on MIG instances, and those that share a card by time.
    assert_eq!(types, 265 + 133);
}

#[test]
fn an_unknown_card_is_no_error() {
    let catalogue = catalogue();
    let unknown = id("1234:11ff");
    assert_eq!(catalogue.card(unknown), None);
    assert_eq!(catalogue.vgpus(unknown).count(), 0);
    assert_eq!(catalogue.mig_profiles(unknown).count(), 0);
    assert_eq!(catalogue.partitions(unknown).count(), 0);
    assert_eq!(catalogue.provisioning(unknown), None);
    assert_eq!(catalogue.geometry(3), None);
    assert_eq!(catalogue.source("nobody"), None);
}

#[test]
fn cards() {
    let catalogue = catalogue();
    let a40 = catalogue.card(id("10de:2235")).unwrap();
    assert_eq!(a40.name, "A40");
    assert_eq!(a40.memory.as_ref().unwrap().value, Memory::from_bytes(48 * GIB));
    assert_eq!(a40.vfs.as_ref().map(|vfs| (vfs.value, vfs.assumed)), Some((32, false)));
    assert_eq!(a40.mig_slices, None);
    let h100 = catalogue.card(id("10de:2331")).unwrap();
    assert_eq!(h100.mig_slices.as_ref().unwrap().value, 7);
    assert_eq!(h100.vfs, None, "nobody says it");
    assert_eq!(catalogue.card(id("10de:20b7")).unwrap().mig_slices.as_ref().unwrap().value, 4);
    let t4 = catalogue.card(id("10de:1eb8")).unwrap();
    assert_eq!(t4.cut_by, [Interface::NvidiaMdev]);
    let mi300x = catalogue.card(id("1002:74a1")).unwrap();
    assert!(
        mi300x.has(Hazard::NoPfReset) && mi300x.has(Hazard::KeepsMemory) && !mi300x.has(Hazard::NoBusReset)
    );
    assert_eq!(mi300x.vf.as_ref().unwrap().value, id("1002:74b5"));
    assert_eq!(catalogue.source(&mi300x.vfs.as_ref().unwrap().source).unwrap().split(':').count(), 2);
    assert_eq!(catalogue.card(id("8086:56c0")).unwrap().vfs.as_ref().unwrap().value, 31);
    assert_eq!(catalogue.card(id("8086:e20b")).unwrap().cut_by, []);
}

/// quirk_nvidia_no_bus_reset of drivers/pci/quirks.c: these and no others.
#[test]
fn no_bus_reset_is_known_of_the_cards_that_linux_lists() {
    for (id, card) in catalogue().cards().filter(|(id, _)| id.vendor == 0x10de) {
        let listed = id.device & 0xffc0 == 0x2340 || id.device == 0x1eb8;
        assert_eq!(card.has(Hazard::NoBusReset), listed, "{id} {}", card.name);
    }
}

#[test]
fn vgpu_types_are_found_by_name() {
    let catalogue = catalogue();
    let find = |card: &str, name: &str| catalogue.vgpu(id(card), &name.parse().unwrap());
    let known = find("10de:25b6", "A2-4Q").unwrap();
    assert_eq!(known.framebuffer, Memory::from_bytes(4 * GIB));
    assert_eq!((known.series, known.max, known.class), (Some(VgpuSeries::Q), Some(4), None));
    let known = find("10de:2bb5", "DC-1-24").unwrap();
    assert_eq!((known.series, known.class), (None, Some(MigClass::One)));
    let known = find("10de:2331", "H100-1-20C").unwrap();
    assert_eq!(known.class, Some(MigClass::OneDouble));
    let known = find("10de:20b7", "A30-2-12CME").unwrap();
    assert_eq!((known.class, known.attribute), (Some(MigClass::Two), Some(MigAttribute::Me)));
    assert_eq!(find("10de:2235", "A2-4Q"), None, "another card's");
}

/// As many of each profile as NVIDIA/mig-parted makes of it (deployments/systemd/config-default.yaml).
#[test]
fn mig_profiles_are_as_many_as_mig_parted_makes() {
    let catalogue = catalogue();
    let most = |card: &str| -> Vec<_> {
        let slices = catalogue.card(id(card)).unwrap().mig_slices.as_ref().unwrap().value;
        let geometry = catalogue.geometry(slices).unwrap();
        let profiles = catalogue.mig_profiles(id(card));
        profiles.map(|p| (p.name.clone(), geometry.profile(p.class, p.attribute).unwrap().max)).collect()
    };
    let cases = [
        ("10de:20b7", "1g.6gb 4, 1g.6gb+me 1, 2g.12gb 2, 2g.12gb+me 1, 4g.24gb 1"),
        ("10de:20b0", "1g.5gb 7, 1g.5gb+me 1, 1g.10gb 4, 2g.10gb 3, 3g.20gb 2, 4g.20gb 1, 7g.40gb 1"),
        ("10de:2330", "1g.10gb 7, 1g.10gb+me 1, 1g.20gb 4, 2g.20gb 3, 3g.40gb 2, 4g.40gb 1, 7g.80gb 1"),
        ("10de:2335", "1g.18gb 7, 1g.35gb 4, 2g.35gb 3, 3g.71gb 2, 4g.71gb 1, 7g.141gb 1"),
        ("10de:2941", "1g.23gb 7, 1g.47gb 4, 2g.47gb 3, 3g.93gb 2, 7g.186gb 1"),
        (
            "10de:2bb5",
            "1g.24gb 4, 1g.24gb+me 1, 1g.24gb+gfx 4, 1g.24gb+me.all 1, 1g.24gb-me 4, 2g.48gb 2, 2g.48gb+gfx 2, \
             2g.48gb+me.all 1, 2g.48gb-me 2, 4g.96gb 1, 4g.96gb+gfx 1",
        ),
    ];
    for (card, expected) in cases {
        let shown: Vec<_> = most(card).into_iter().map(|(name, max)| format!("{name} {max}")).collect();
        assert_eq!(shown.join(", "), expected, "{card}");
    }
}

#[test]
fn mig_profiles_have_the_ids_that_nvidia_smi_shows() {
    let catalogue = catalogue();
    let ids = |slices: u8| -> Vec<_> {
        let geometry = catalogue.geometry(slices).unwrap();
        geometry.profiles.iter().map(|profile| profile.id).collect()
    };
    assert_eq!(ids(7), [19, 20, 15, 14, 9, 5, 0]);
    assert_eq!(ids(4), [14, 21, 47, 65, 67, 5, 6, 35, 64, 66, 0, 32]);
    let seven = catalogue.geometry(7).unwrap();
    assert_eq!(seven.profile_by_id(15).unwrap().class, MigClass::OneDouble);
    assert_eq!(seven.profile_by_id(47), None);
}

#[test]
fn compute_is_in_no_fewer_parts_than_memory_and_one_mode_is_the_default() {
    let catalogue = catalogue();
    let mut seen = 0;
    for (id, _) in catalogue.cards() {
        let ways: Vec<_> = catalogue.partitions(id).collect();
        for way in &ways {
            assert!(way.accelerator.parts(8) >= way.memory.parts(), "{id} {way:?}");
            let same =
                |other: &&&Partition| other.default && (other.vfs, other.memory) == (way.vfs, way.memory);
            assert!(ways.iter().filter(same).count() <= 1, "{id} {way:?}");
        }
        seen += ways.len();
    }
    assert_eq!(seen, 10 + 3 * 2);
    let memory = |vfs: u16| {
        let ways = catalogue.partitions(id("1002:74a1")).filter(move |way| way.vfs == vfs);
        ways.map(|way| way.memory).collect::<Vec<_>>()
    };
    assert_eq!(memory(2), [MemoryMode::Nps1; 2], "two VFs do not go with NPS4");
    let quarters = |way: &&Partition| (way.vfs, way.accelerator) == (4, AcceleratorMode::Qpx);
    assert_eq!(catalogue.partitions(id("1002:74a1")).filter(quarters).count(), 1);
}

#[test]
fn intel_provisioning() {
    let catalogue = catalogue();
    let flex = catalogue.provisioning(id("8086:56c0")).unwrap();
    assert_eq!(flex.memory.bytes(), 16_777_216_000);
    assert_eq!(flex.vf_counts, [1, 2, 4, 5, 8, 16, 31]);
    let most = catalogue.card(id("8086:56c0")).unwrap().vfs.as_ref().unwrap().value;
    assert!(flex.vf_counts.iter().all(|count| *count <= most));
}

/// A vendor's file that says this, beside a card with the source `doc`.
fn refused(more: &'static str) -> String {
    const CARD: &str = "sources.doc = \"a document of its vendor\"\n[[card]]\nids = [\"10de:0001\"]\nname = \"X\"\n\
        source = \"doc\"\ncut_by = []\nmig_slices = { value = 4, source = \"doc\" }\n";
    let text: &'static str = Box::leak(format!("{CARD}{more}").into_boxed_str());
    Catalogue::read(&[File { name: "x.toml", vendor: 0x10de, text }]).unwrap_err().to_string()
}

#[test]
fn what_breaks_the_rules_is_refused() {
    let cases = [
        ("vfs = { value = 3, source = \"rumour\" }", "there is no source rumour"),
        ("vfs = { value = 3 }", "cannot be read"),
        ("vfs = 3", "cannot be read"),
        ("colour = 3", "cannot be read"),
        (
            "[[card]]\nids = [\"10de:0001\"]\nname = \"Y\"\nsource = \"doc\"\ncut_by = []",
            "there are two cards 10de:0001",
        ),
        (
            "[[card]]\nids = [\"1002:0001\"]\nname = \"Y\"\nsource = \"doc\"\ncut_by = []",
            "Y has the id 1002:0001, which is another vendor's",
        ),
        ("[[card]]\nids = []\nname = \"Y\"\nsource = \"doc\"\ncut_by = []", "Y has no id"),
        (
            "vfs = { value = 4, source = \"doc\" }\nvf_counts = { value = [1, 8], source = \"doc\" }",
            "X takes [1, 8] VFs, and has at most 4",
        ),
        (
            "[[vgpu]]\ncards = [\"10de:0001\"]\nsource = \"doc\"\ntypes = [{ name = \"X-1Q\", framebuffer = \"1GiB\" }, \
             { name = \"X-1Q\", framebuffer = \"1GiB\" }]",
            "X-1Q of 10de:0001 is there twice",
        ),
        ("[[vgpu]]\ncards = [\"10de:0002\"]\nsource = \"doc\"\ntypes = []", "there is no card 10de:0002"),
        (
            "[[geometry]]\nslices = 4\nmemory_slices = 4\nsource = \"doc\"\nprofiles = []\n[[mig_profiles]]\n\
             cards = [\"10de:0001\"]\nsource = \"doc\"\nprofiles = [{ name = \"7g.8gb\", class = \"7g\" }]",
            "7g.8gb is 7g, and 10de:0001 cannot be divided so",
        ),
        (
            "[[geometry]]\nslices = 4\nmemory_slices = 4\nsource = \"doc\"\nprofiles = [{ class = \"2g\", id = 1, max = 1, \
             memory_slices = 2, starts = [3] }]",
            "profile 1 (2g) does not fit into 4 slices",
        ),
        (
            "[[provisioning]]\ncards = [\"10de:0001\", \"10de:0001\"]\nsource = \"doc\"\nvf_counts = []\nmemory = \"1GiB\"",
            "10de:0001 is provisioned twice",
        ),
    ];
    for (more, expected) in cases {
        let told = refused(more);
        assert!(told.starts_with("x.toml of the built-in catalogue"), "{told}");
        assert!(told.ends_with(expected), "{told}");
    }
}

#[test]
fn two_asks_for_modes_go_together_unless_they_differ() {
    let modes = |accelerator, memory| PartitionModes { accelerator, memory };
    let (cpx, nps4) = (Some(AcceleratorMode::Cpx), Some(MemoryMode::Nps4));
    assert_eq!(modes(cpx, None).and(modes(None, nps4)), Some(modes(cpx, nps4)));
    assert_eq!(modes(cpx, nps4).and(modes(cpx, None)), Some(modes(cpx, nps4)));
    assert_eq!(modes(cpx, nps4).and(modes(Some(AcceleratorMode::Spx), None)), None);
    assert_eq!(modes(None, nps4).and(modes(cpx, Some(MemoryMode::Nps1))), None);
}
