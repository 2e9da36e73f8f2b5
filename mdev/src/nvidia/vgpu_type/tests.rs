use super::*;
use proptest::prelude::*;
use vgpud_config::{
    PciId,
    catalogue::{Catalogue, MigClass},
};

fn read(text: &str) -> VgpuType {
    text.parse().unwrap()
}

#[test]
fn names() {
    use {MigAttribute as A, VgpuSeries as S};
    let cases = [
        ("GRID A100-40C", "A100-40C", Some(S::C), 40 << 10, None),
        ("NVIDIA A40-2Q", "A40-2Q", Some(S::Q), 2 << 10, None),
        ("A2-1B", "A2-1B", Some(S::B), 1 << 10, None),
        ("GRID M60-0Q", "M60-0Q", Some(S::Q), 512, None),
        ("NVIDIA RTX6000-Ada-12A", "RTX6000-Ada-12A", Some(S::A), 12 << 10, None),
        ("NVIDIA RTX Pro 6000 Blackwell DC-48C", "DC-48C", Some(S::C), 48 << 10, None),
        ("NVIDIA RTX Pro 6000 Blackwell DC-1-24", "DC-1-24", None, 24 << 10, Some((1, None))),
        ("DC-1-24CGFX", "DC-1-24CGFX", Some(S::C), 24 << 10, Some((1, Some(A::Gfx)))),
        ("GRID A100X-1-5CME", "A100X-1-5CME", Some(S::C), 5 << 10, Some((1, Some(A::Me)))),
        ("DC-2-48CMEALL", "DC-2-48CMEALL", Some(S::C), 48 << 10, Some((2, Some(A::MeAll)))),
        ("DC-1-24CNOME", "DC-1-24CNOME", Some(S::C), 24 << 10, Some((1, Some(A::NoMe)))),
        ("NVIDIA RTX 6000D-2-84", "6000D-2-84", None, 84 << 10, Some((2, None))),
        ("NVIDIA H200X-7-141C", "H200X-7-141C", Some(S::C), 141 << 10, Some((7, None))),
    ];
    for (text, short, series, mib, mig) in cases {
        let mig = mig.map(|(slices, attribute)| MigPart { slices, attribute });
        let framebuffer = Memory::from_bytes(mib << 20);
        assert_eq!(read(text), VgpuType { name: short.parse().unwrap(), series, framebuffer, mig }, "{text}");
    }
}

#[test]
fn odd_names_are_refused() {
    let long = format!("{}-1Q", "A".repeat(126));
    for bad in [
        "",
        "NVIDIA GeForce RTX 3050",
        "A40",
        "A40-",
        "A40-Q",
        "-2Q",
        "A40-2q",
        "A40-2X",
        "A40-02Q",
        "A40-+2Q",
        "a40-2Q",
        "A40-2QME",
        "A40-2Q ",
        "A100-0-5C",
        "A100-10-5C",
        "A100-1-5CXX",
        "A100-1-5ECM",
        "A100-1-2-5C",
        "A40-2Qé",
        "A40-99999999999999999999Q",
        "A40-18446744073709551615Q",
        &long,
    ] {
        let error = bad.parse::<VgpuType>().unwrap_err().to_string();
        assert!(error.ends_with(
            " is not the name of an NVIDIA vGPU type; such names end as in A40-8Q or H100-1-10CME"
        ));
    }
}

#[test]
fn all_but_compute_needs_graphics() {
    assert_eq!(read("DC-1-24C").needs(), None);
    assert_eq!(read("DC-1-24Q").needs(), Some(MigAttribute::Gfx));
    assert_eq!(read("DC-1-24").needs(), Some(MigAttribute::Gfx));
    assert_eq!(read("A100-1-5CME").needs(), Some(MigAttribute::Me));
    assert_eq!(read("A40-2Q").needs(), None, "it is on no instance of MIG");
}

/// Of a driver's table: card, number, name, and the share of the card.
fn driver_table() -> Vec<(PciId, u32, &'static str, &'static str)> {
    let lines = include_str!("../../../testdata/nvidia_vgpu_types.csv").lines().skip(2);
    let row = |line: &'static str| {
        let fields: Vec<_> = line.split(',').collect();
        let [card, number, name, share] = fields[..] else { panic!("{line}") };
        let card = format!("10de:{}", &card[2..]).parse().unwrap();
        (card, number.parse().unwrap(), name, share)
    };
    lines.map(row).collect()
}

fn class(slices: u8, share: &str) -> MigClass {
    match (slices, share) {
        (7, "1/8") | (4, "1/4") | (2, "miniH") => MigClass::One,
        (7, "miniQ") => MigClass::OneDouble,
        (7, "1/4") | (4, "1/2") | (2, "full") => MigClass::Two,
        (7, "miniH") => MigClass::Three,
        (7, "1/2") | (4, "full") => MigClass::Four,
        (7, "full") => MigClass::Seven,
        _ => panic!("{share} of {slices}"),
    }
}

/// Name, size class and catalogue agree for every type in the driver's table.
#[test]
fn the_drivers_types_are_what_their_names_say() {
    let (catalogue, table) = (Catalogue::load().unwrap(), driver_table());
    assert_eq!(table.len(), 269);
    let mut odd = Vec::new();
    let mut classes = 0;
    for (card, number, name, share) in &table {
        let Ok(vgpu) = name.parse::<VgpuType>() else {
            odd.push(*number);
            continue;
        };
        let slices = catalogue.card(*card).unwrap().mig_slices.as_ref().unwrap().value;
        let known = catalogue.vgpu(*card, &vgpu.name).unwrap();
        assert_eq!((known.series, known.framebuffer), (vgpu.series, vgpu.framebuffer), "{name}");
        assert_eq!(known.attribute, vgpu.mig.unwrap().attribute, "{name}");
        assert_eq!(known.class, Some(class(slices, share)), "{name}");
        assert_eq!(known.class.unwrap().slices(), vgpu.mig.unwrap().slices, "{name}");
        // What an unknown card's names tell by themselves, beside one another.
        if let Some(geometry) = catalogue.geometry(slices) {
            let beside = table.iter().filter(|(other, ..)| other == card);
            let beside = beside.filter_map(|(.., name, _)| name.parse::<VgpuType>().ok()?.size());
            assert_eq!(vgpu.size().unwrap().class(geometry, beside), known.class, "{name}");
            classes += 1;
        }
    }
    assert_eq!(odd, [1604, 1605, 2266, 2267], "GeForce");
    assert_eq!(classes, 265 - 8, "all but those of the card with two slices");
}

#[test]
fn the_catalogues_types_are_what_their_names_say() {
    let catalogue = Catalogue::load().unwrap();
    let mut count = 0;
    for (card, _) in catalogue.cards() {
        for known in catalogue.vgpus(card) {
            let vgpu = read(known.name.as_ref());
            assert_eq!((vgpu.series, vgpu.framebuffer), (known.series, known.framebuffer), "{vgpu}");
            assert_eq!(vgpu.mig.map(|mig| mig.slices), known.class.map(MigClass::slices), "{vgpu}");
            count += 1;
        }
    }
    assert_eq!(count, 398);
}

proptest! {
    #[test]
    fn names_read_back(
        words in "(NVIDIA |GRID )?([A-Za-z0-9]{1,8} ){0,3}",
        model in "[A-Z0-9]{1,8}",
        slices in prop::option::of(1_u8..=9),
        gigabytes in 0_u64..2000,
        series in prop::option::of(0..4_usize),
        attribute in prop::option::of(0..4_usize),
    ) {
        let series = series.map(|at| VgpuSeries::ALL[at]);
        let attribute = attribute.filter(|_| slices.is_some()).map(|at| MigAttribute::ALL[at]);
        let part = slices.map(|slices| format!("-{slices}")).unwrap_or_default();
        let letter = series.map(|series| series.letter().to_string()).unwrap_or_default();
        let end = attribute.map_or("", MigAttribute::of_vgpu);
        let short = format!("{model}{part}-{gigabytes}{letter}{end}");
        let vgpu = read(&format!("{words}{short}"));
        prop_assert_eq!(vgpu.to_string(), short.clone());
        prop_assert_eq!(vgpu.series, series);
        prop_assert_eq!(vgpu.mig, slices.map(|slices| MigPart { slices, attribute }));
        prop_assert_eq!(read(&short), vgpu);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "([A-Z]{1,4}|-|[0-9]{1,21}|[QBAC]|ME|GFX|MEALL| |.){0,10}") {
        if let Ok(vgpu) = text.parse::<VgpuType>() {
            prop_assert_eq!(vgpu.to_string().parse(), Ok(vgpu));
        }
    }
}
