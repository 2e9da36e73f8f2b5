use super::*;
use crate::Settings;
use proptest::prelude::*;

fn read(text: &str) -> Result<Imported, String> {
    import(text, &[]).map_err(|error| error.to_string())
}

/// What vgpud would read of it.
fn written(imported: &Imported) -> Settings {
    let text = imported.to_toml("profiles.yaml");
    ::toml::from_str(&text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

const VGPUS: &str = r"
version: v1
vgpu-configs:
  A40-8Q:
    - devices: all
      vgpu-devices:
        A40-8Q: 6
  mixed.cards:
    - device-filter: ['0x223510DE', '0x20B010de']
      devices: all
      vgpu-devices: {A40-8Q: 2, A40-4C: 0}
    - device-filter: '0x26B910DE'
      devices: all
      vgpu-devices: {}
";

const MIG: &str = r#"
version: v1
mig-configs:
  all-disabled:
    - devices: all
      mig-enabled: false
  a100-balanced:
    - device-filter: "0x20B010DE"
      devices: all
      mig-enabled: true
      mig-devices:
        "1g.5gb": 2
        "2g.10gb": 1
        "3g.20gb": 1
"#;

#[test]
fn a_file_of_vgpu_device_manager_becomes_layouts() {
    let imported = read(VGPUS).unwrap();
    assert_eq!(imported.format, ImportFormat::VgpuDeviceManager);
    assert_eq!(
        imported.to_toml("a\nb.yaml"),
        r#"# Layouts out of a b.yaml, a file of NVIDIA's vgpu-device-manager.
# all: the GPUs of every maker. On a host with others beside NVIDIA's, write vendor:device instead.

[layout."A40-8Q"."all"]
slices = [
    { profile = "A40-8Q", count = 6 },
]

[layout."mixed.cards"."10de:20b0"]
slices = [
    { profile = "A40-8Q", count = 2 },
]

[layout."mixed.cards"."10de:2235"]
slices = [
    { profile = "A40-8Q", count = 2 },
]

[layout."mixed.cards"."10de:26b9"]
slices = []
"#
    );
    assert_eq!(written(&imported).layouts, imported.layouts);
    let only = import(VGPUS, &["A40-8Q".to_owned()]).unwrap();
    assert_eq!(only.layouts.len(), 1);
}

#[test]
fn gpu_instances_of_mig_parted_become_the_vgpus_on_them() {
    let imported = read(MIG).unwrap();
    assert_eq!(imported.format, ImportFormat::MigParted);
    let balanced = &imported.layouts[&"a100-balanced".parse().unwrap()];
    let entry = &balanced.entries[&"10de:20b0".parse().unwrap()];
    let slices: Vec<_> = entry.slices.iter().map(|s| format!("{} {}", s.count, s.want)).collect();
    assert_eq!(slices, ["2 A100X-1-5C", "1 A100X-2-10C", "1 A100X-3-20C"]);
    let disabled = &imported.layouts[&"all-disabled".parse().unwrap()];
    assert!(disabled.entries[&GpuChoice::All].slices.is_empty());
    assert_eq!(written(&imported).layouts, imported.layouts);
}

#[test]
fn what_cannot_be_said_is_refused_with_its_line_and_the_way_out() {
    let vgpu = |entry: &str| format!("version: v1\nvgpu-configs:\n  day:\n    - {entry}\n");
    let mig = |entry: &str| format!("version: v1\nmig-configs:\n  day:\n    - {entry}\n");
    for (text, wanted) in [
        ("version: v2\nvgpu-configs: {}".to_owned(), &["line 1: version \"v2\" is not known"][..]),
        ("version: v1".to_owned(), &["has no `vgpu-configs` and no `mig-configs`"]),
        ("version: v1\nvgpu-configs: {}\nmig-configs: {}".to_owned(), &["import one of them at a time"]),
        ("version: v1\nvgpu-config: {}".to_owned(), &["line 2: ", "vgpu-config"]),
        ("- 1\n- 2".to_owned(), &["this is no profile file"]),
        ("version: v1\nvgpu-configs: [".to_owned(), &["line "]),
        (
            vgpu("{devices: [0, 1], vgpu-devices: {A40-8Q: 6}}"),
            &[
                "line 4: configuration \"day\": ",
                "which have no numbers here",
                "[layout.NAME.\"0000:41:00.0\"]",
            ],
        ),
        (vgpu("{devices: all, device-filter: 0x20B010DE, vgpu-devices: {}}"), &["line 4", "in quotes"]),
        (vgpu("{devices: {a: b}, vgpu-devices: {}}"), &["line 4", "all, or a list of numbers"]),
        (vgpu("{devices: none, vgpu-devices: {A40-8Q: 6}}"), &["line 4", "`devices` is \"none\"; write all"]),
        (vgpu("{devices: all, device-filter: A40, vgpu-devices: {}}"), &["such as 0x20B010DE"]),
        (vgpu("{devices: all, vgpu-devices: {A40 8Q: 6}}"), &["line 4", "cannot be the name of a profile"]),
        (vgpu("{devices: all, vgpu-devices: {A40-8Q: 5000}}"), &["5000 of A40-8Q are more than"]),
        (vgpu("{devices: all, vgpu-devices: {A40-8Q: -1}}"), &["line 4"]),
        (
            vgpu("{devices: all, vgpu-devices: {A40-8Q: 1}}\n    - {devices: all, vgpu-devices: {}}"),
            &["line 5", "the entry means all, as the one of line 4 does"],
        ),
        (
            mig("{devices: all, mig-enabled: true, mig-devices: {1g.5gb: 7}}"),
            &["line 4", "add the `device-filter` of the card"],
        ),
        (
            mig("{devices: all, device-filter: \"0x20B010DE\", mig-enabled: true, mig-devices: {9g.5gb: 7}}"),
            &[
                "which size \"9g.5gb\" is on a card 10de:20b0 is not known; name the vGPU type in the settings",
            ],
        ),
    ] {
        let told = read(&text).unwrap_err();
        for part in wanted {
            assert!(told.contains(part), "{text}\n{told}");
        }
    }
    let told = import(VGPUS, &["a40".to_owned()]).unwrap_err().to_string();
    assert_eq!(told, "There is no configuration \"a40\" in the file; there are \"A40-8Q\", \"mixed.cards\"");
}

#[test]
fn a_text_that_grows_when_it_is_read_is_refused() {
    let mut text = "version: v1\na: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in
        ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        text += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 10].join(", "));
    }
    assert!(matches!(import(&text, &[]), Err(ImportError::Unread { .. })));
}

proptest! {
    /// What is read is written so that vgpud reads the same.
    #[test]
    fn layouts_read_back(
        name in "[A-Za-z0-9._-]{1,12}",
        filter in prop::option::of((any::<u16>(), any::<u16>())),
        counts in prop::collection::btree_map("[A-Z][A-Z0-9-]{1,8}", 0_u32..40, 0..4),
    ) {
        let filter = filter.map_or(String::new(), |(device, vendor)| {
            format!("device-filter: '0x{device:04X}{vendor:04X}', ")
        });
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("'{name}': {count}")).collect();
        let text = format!(
            "version: v1\nvgpu-configs:\n  '{name}':\n    - {{{filter}devices: all, vgpu-devices: {{{}}}}}\n",
            counts.join(", ")
        );
        let imported = read(&text).unwrap();
        prop_assert_eq!(written(&imported).layouts, imported.layouts);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "(version: v1\nmig-configs:\n)?([a-z0-9:{}\\[\\],&*|> \n-]|.){0,60}") {
        if let Ok(imported) = read(&text) {
            written(&imported);
        }
    }
}

/// As NVIDIA's tools read them, or not at all.
#[test]
fn what_would_mean_something_else_is_refused() {
    let entry = |words: &str| format!("version: v1\nmig-configs:\n  day:\n{words}");
    let told = |text: &str| import(text, &[]).unwrap_err().to_string();
    let instances = "device-filter: \"0x20B010DE\", mig-enabled: true, mig-devices: {1g.5gb: 7}";
    let last = told(&entry(&format!(
        "    - {{devices: all, {instances}}}\n    - {{devices: all, mig-enabled: false}}\n"
    )));
    assert!(last.contains("line 5") && last.contains("also those of line 4"), "{last}");
    let first = format!("    - {{devices: all, mig-enabled: false}}\n    - {{devices: all, {instances}}}\n");
    assert_eq!(import(&entry(&first), &[]).unwrap().layouts[&"day".parse().unwrap()].entries.len(), 2);
    let both = told(&entry("    - {devices: all, mig-enabled: false, mig-devices: {1g.5gb: 7}}\n"));
    assert!(both.contains("`mig-enabled` is false"), "{both}");
    assert!(told("version: v1\nmig-configs:\n  day: []\n").contains("it has no entry"));
    let all = "version: v1\nvgpu-configs:\n  day:\n    - {devices: all, device-filter: [], vgpu-devices: {A40-8Q: 6}}\n";
    let layout = &import(all, &[]).unwrap().layouts[&"day".parse().unwrap()];
    assert!(layout.entries.contains_key(&GpuChoice::All), "{layout:?}");
}
