use super::*;
use std::{error::Error as _, fs, path::Path};

struct Folder(tempfile::TempDir);

impl Folder {
    /// A main file, and drop-ins by name.
    fn with(main: Option<&str>, drop_ins: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        if let Some(text) = main {
            fs::write(folder.main(), text).unwrap();
        }
        for (name, text) in drop_ins {
            let path = folder.0.path().join("vgpud.toml.d").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("vgpud.toml")
    }

    fn load(&self) -> Result<Settings, SettingsError> {
        Settings::load(&self.main())
    }

    /// The error, with the folder's path left out.
    fn told(&self) -> String {
        self.load().unwrap_err().to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn loaded(text: &str) -> Settings {
    Folder::with(Some(text), &[]).load().unwrap()
}

fn told(text: &str) -> String {
    Folder::with(Some(text), &[]).told()
}

#[test]
fn absent_files_are_the_defaults() {
    let settings = Folder::with(None, &[]).load().unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.daemon.socket, Path::new("/run/vgpud/vgpud.sock"));
    assert_eq!(settings.daemon.state_dir, Path::new("/var/lib/vgpud"));
    assert_eq!(settings.timeouts.device, Duration::from_secs(60));
    assert_eq!(settings.daemon.sandbox, Confinement::On);
    assert_eq!(loaded(""), settings);
}

#[test]
fn the_example_names_every_key_at_its_default() {
    assert_eq!(loaded(Settings::EXAMPLE), Settings::default());
    // With every comment that is a setting taken in, too, it is still understood.
    let uncommented: Vec<_> = Settings::EXAMPLE
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.starts_with('[') || rest.contains(" = "))
                .unwrap_or(line)
        })
        .collect();
    let settings = loaded(&uncommented.join("\n"));
    assert_eq!(settings.run.kernel.as_deref(), Some(Path::new("/boot/vmlinuz")));
    assert_eq!(settings.gpu.len(), 1);
    assert_eq!(settings.classes.len(), 2);
    assert_eq!(settings.layouts.len(), 1);
    // Every key that the types know stands there: each is asked of serde, and looked for.
    let tables: Vec<_> = known_keys("");
    assert_eq!(
        tables,
        [
            "daemon",
            "access",
            "gpus",
            "gpu",
            "placement",
            "vfio",
            "cdi",
            "run",
            "scrub",
            "quota",
            "class",
            "layout",
            "nvidia",
            "timeouts"
        ]
    );
    for table in tables {
        let header = match &*table {
            "gpu" => "gpu.\"0000:41:00.0\"",
            "quota" => "quota.default",
            "class" => "class.inference-small",
            "layout" => "layout.day.all",
            table => table,
        };
        let part = uncommented.iter().skip_while(|line| **line != format!("[{header}]")).skip(1);
        // A class is one of two things: the example shows each.
        let part: Vec<_> =
            part.take_while(|line| !line.starts_with('[') || line.starts_with("[class.")).collect();
        for key in known_keys(header) {
            assert!(part.iter().any(|line| line.starts_with(&format!("{key} = "))), "{key} in [{header}]");
        }
    }
}

/// The keys of a table, as serde lists them when it meets another one.
fn known_keys(table: &str) -> Vec<String> {
    let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    let text = told(&format!("{header}qqqqqqqq = 1"));
    match text.split_once("the keys are ") {
        Some((_, keys)) => keys.split(", ").map(str::to_owned).collect(),
        None => panic!("{text}"),
    }
}

#[test]
fn everything_can_be_set() {
    let settings = loaded(
        r#"
        [daemon]
        socket = "/run/other.sock"
        sandbox = "off"
        [access]
        operators = ["alice", "@gpu", "1000"]
        [gpus]
        include = ["1d0f:0001"]
        exclude = ["0000:03:00.0", "04:00.0"]
        [gpu."41:00.0"]
        mechanism = "mdev"
        reuse = "same-owner"
        mig = "on"
        [placement]
        strategy = "spread"
        numa_node = "require:1"
        [vfio]
        node = "cdev"
        [run]
        qemu = "/opt/qemu"
        kernel = "/boot/vmlinuz"
        memory = "2GiB"
        [scrub]
        reuse = "reset"
        deadline = "5min"
        [timeouts]
        device = "2min"
        "#,
    );
    let scrub = ScrubSettings { reuse: Reuse::Reset, deadline: Duration::from_secs(300) };
    assert_eq!(settings.scrub, scrub);
    assert_eq!(settings.reuse("41:00.0".parse().unwrap()), Reuse::SameOwner);
    assert_eq!(settings.mig(), [("41:00.0".parse().unwrap(), MigMode::On)].into());
    assert_eq!(settings.reuse("42:00.0".parse().unwrap()), Reuse::Reset);
    assert_eq!(settings.daemon.socket, Path::new("/run/other.sock"));
    assert_eq!(settings.daemon.state_dir, DaemonSettings::default().state_dir);
    assert_eq!(settings.daemon.sandbox, Confinement::Off);
    let operators: Vec<_> = settings.access.operators.iter().map(ToString::to_string).collect();
    assert_eq!(operators, ["alice", "@gpu", "1000"]);
    assert!(settings.access.viewers.is_empty() && !settings.access.is_empty());
    assert_eq!(settings.gpus.include, ["1d0f:0001".parse().unwrap()]);
    assert_eq!(settings.gpus.exclude[1], "0000:04:00.0".parse().unwrap());
    let gpu = &settings.gpu[&"0000:41:00.0".parse().unwrap()];
    assert_eq!(gpu.mechanism, Some(MechanismKind::Mdev));
    assert_eq!(settings.placement.strategy, PlacementStrategy::Spread);
    assert_eq!(settings.placement.numa_node, Some("require:1".parse().unwrap()));
    assert_eq!(settings.vfio.node, NodeKind::Cdev);
    assert_eq!(settings.run.qemu, Path::new("/opt/qemu"));
    assert_eq!(settings.run.memory, Memory::from_bytes(2 << 30));
    assert_eq!(settings.timeouts.device, Duration::from_secs(120));
}

#[test]
fn drop_ins_win_key_by_key_in_order_of_their_names() {
    let main = "[run]\nqemu = \"qemu-1\"\nmemory = \"1GiB\"\n[gpus]\nexclude = [\"01:00.0\"]\n[gpu.\"41:00.0\"]\nmechanism = \"mdev\"";
    let folder = Folder::with(
        Some(main),
        &[
            ("20-late.toml", "[run]\nmemory = \"3GiB\"\n[gpus]\nexclude = []"),
            ("10-early.toml", "[run]\nmemory = \"2GiB\"\n[gpu.\"0000:41:00.0\"]\nmechanism = \"sriov\""),
            (".hidden.toml", "no settings"),
            ("10-early.toml.dpkg-old", "no settings"),
            ("README", "no settings"),
        ],
    );
    let settings = folder.load().unwrap();
    assert_eq!(settings.run.qemu, Path::new("qemu-1"));
    assert_eq!(settings.run.memory, Memory::from_bytes(3 << 30));
    assert_eq!(settings.gpus.exclude, []);
    assert_eq!(settings.gpu.len(), 1, "one GPU in two spellings");
    assert_eq!(settings.gpu.values().next().unwrap().mechanism, Some(MechanismKind::Sriov));
    let only = Folder::with(None, &[("1.toml", "[run]\nmemory = \"2GiB\"")]).load().unwrap();
    assert_eq!(only.run.memory, Memory::from_bytes(2 << 30));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    let cases = [
        (
            "[daemon]\nsocet = \"/x\"",
            "vgpud.toml, line 2: there is no key `socet` in [daemon]; did you mean `socket`?",
        ),
        (
            "\n\n[deamon]\nsocket = \"/x\"",
            "vgpud.toml, line 3: there is no key `deamon`; did you mean `daemon`?",
        ),
        (
            "gpus.excluded = []",
            "vgpud.toml, line 1: there is no key `excluded` in [gpus]; did you mean `exclude`?",
        ),
        (
            "[run]\ncolour = 1",
            "vgpud.toml, line 2: there is no key `colour` in [run]; the keys are qemu, kernel, initrd, memory",
        ),
        (
            "[gpu.\"0000:41:00.0\"]\n# how\nmechanisms = \"mdev\"",
            "vgpud.toml, line 3: there is no key `mechanisms` in [gpu.0000:41:00.0]; did you mean `mechanism`?",
        ),
        (
            "run = { mem = \"1GiB\" }",
            "vgpud.toml, line 1: there is no key `mem` in [run]; did you mean `memory`?",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), expected, "{text}");
    }
    let folder = Folder::with(Some("[run]\nmemory = \"2GiB\""), &[("5.toml", "[timeouts]\nrelase = \"1s\"")]);
    assert_eq!(
        folder.told(),
        "vgpud.toml.d/5.toml, line 2: there is no key `relase` in [timeouts]; did you mean `release`?"
    );
}

#[test]
fn wrong_values_are_refused_with_the_way_out() {
    let cases = [
        (
            "[run]\nmemory = \"lots\"",
            "line 2: `memory` in [run] cannot be \"lots\": it is not an amount of memory; write a whole number and a \
             unit, such as 512MiB or 20GiB; as in memory = \"512MiB\"",
        ),
        (
            "[run]\n\nmemory = 512",
            "line 3: `memory` in [run] cannot be 512: invalid type: integer `512`, expected a string; as in memory = \"512MiB\"",
        ),
        (
            "[daemon]\nstate_dir = \"var/lib\"",
            "line 2: `state_dir` in [daemon] cannot be \"var/lib\": write an absolute path, one that begins with /; \
             as in state_dir = \"/var/lib/vgpud\"",
        ),
        (
            "[run]\nkernel = \"vmlinuz\"",
            "line 2: `kernel` in [run] cannot be \"vmlinuz\": write an absolute path, one that begins with /; as in \
             kernel = \"/boot/vmlinuz\"",
        ),
        (
            "[run]\nqemu = \"bin/qemu\"",
            "line 2: `qemu` in [run] cannot be \"bin/qemu\": write an absolute path, one that begins with /; as in \
             qemu = \"qemu-system-x86_64\"",
        ),
        (
            "[run]\nqemu = \"\"",
            "line 2: `qemu` in [run] cannot be \"\": write the name of a program, or its absolute path; as in \
             qemu = \"qemu-system-x86_64\"",
        ),
        (
            "[access]\nviewers = [\"alice\", \"a b\"]",
            "line 2: `viewers` in [access] cannot be \"a b\": \"a b\" cannot be a user or a group; write a user as alice \
             or 1000, a group as @gpu or @27; as in viewers = []",
        ),
        (
            "[timeouts]\ndevice = \"soon\"",
            "line 2: `device` in [timeouts] cannot be \"soon\": write a number and a unit, such as 30s or 2min, more \
             than 0 and at most 1day; as in device = \"60s\"",
        ),
        (
            "[timeouts]\ndevice = \"500000000000years\"",
            "line 2: `device` in [timeouts] cannot be \"500000000000years\": write a number and a unit, such as 30s \
             or 2min, more than 0 and at most 1day; as in device = \"60s\"",
        ),
        (
            "[timeouts]\nrelease = \"0s\"",
            "line 2: `release` in [timeouts] cannot be \"0s\": write a number and a unit, such as 30s or 2min, more \
             than 0 and at most 1day; as in release = \"30s\"",
        ),
        (
            "[placement]\nnuma_node = \"node0\"",
            "line 2: `numa_node` in [placement] cannot be \"node0\": \"node0\" is no NUMA node; write prefer:0, or 0 for \
             short, or require:0; as in numa_node = \"prefer:0\"",
        ),
        (
            "[vfio]\nnode = \"grup\"",
            "line 2: `node` in [vfio] cannot be \"grup\": unknown variant `grup`, expected one of `auto`, `group`, \
             `cdev`; as in node = \"auto\"",
        ),
        (
            "[vfio]\ngroup = \"@kvm\"",
            "line 2: `group` in [vfio] cannot be \"@kvm\": \"@kvm\" cannot be a user or a group here; write its name \
             or number alone, such as qemu or 36; as in group = \"kvm\"",
        ),
        (
            "[daemon]\nsandbox = true",
            "line 2: `sandbox` in [daemon] cannot be true: wanted string or table; as in \
             sandbox = \"on\"",
        ),
        (
            "[gpu.\"0000:41:00.0\"]\nmechanism = \"sr-iov\"",
            "line 2: `mechanism` in [gpu.0000:41:00.0] cannot be \"sr-iov\": There is no mechanism \"sr-iov\"; the \
             mechanisms are nvidia-vfio, nvidia-mdev, intel-xe, amd-gim, sriov, mdev, passthrough; as in mechanism = \"sriov\"",
        ),
        (
            "[gpus]\nexclude = [\n  \"0000:41:00.0\",\n  \"0000:41:00\",\n]",
            "line 4: `exclude` in [gpus] cannot be \"0000:41:00\": it is not a PCI address; write \
             domain:bus:device.function, such as 0000:41:00.0; as in exclude = []",
        ),
        (
            "[gpu.first]\nmechanism = \"mdev\"",
            "line 1: `first` in [gpu] cannot be first: it is not a PCI address; write domain:bus:device.function, such \
             as 0000:41:00.0",
        ),
        ("run = 3", "line 1: `run` cannot be 3: invalid type: integer `3`; write a table, [run]"),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), format!("vgpud.toml, {expected}"), "{text}");
    }
    let long = format!("[daemon]\nsocket = \"/{}\"", "x".repeat(107));
    let text = told(&long);
    assert!(text.contains("…: write a path of at most 107 bytes; as in socket = "), "{text}");
}

#[test]
fn one_gpu_in_two_spellings_is_refused() {
    assert_eq!(
        told("[gpu.\"0000:41:00.0\"]\nmechanism = \"mdev\"\n[gpu.\"41:00.0\"]\nmechanism = \"sriov\""),
        "vgpud.toml, line 3: `41:00.0` in [gpu] is the same as \"0000:41:00.0\"; keep one"
    );
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let text = told("[run]\nmemory = \"2GiB");
    assert!(text.starts_with("vgpud.toml, line 2: this is no TOML: "), "{text}");
    let text = told("[run]\nmemory = \"2GiB\"\nmemory = \"3GiB\"");
    assert!(text.starts_with("vgpud.toml, line 3: this is no TOML: "), "{text}");
    assert_eq!(
        told("[gpu.\"0000:41:00.0\"]\nmechanism = \"mdev\"\n[gpu.\"0000:41:00.0\"]\nmechanism = \"sriov\""),
        "vgpud.toml, line 3: this is no TOML: duplicate key: \"0000:41:00.0\""
    );
    let text = told("[run\n");
    assert!(text.starts_with("vgpud.toml, line 1: this is no TOML: "), "{text}");
}

#[test]
fn what_is_there_and_cannot_be_read_is_refused() {
    let folder = Folder::with(None, &[]);
    fs::create_dir(folder.main()).unwrap();
    assert_eq!(folder.told(), "Cannot read the settings vgpud.toml");
    assert_eq!(folder.load().unwrap_err().source().unwrap().to_string(), "Is a directory (os error 21)");
    let folder = Folder::with(None, &[]);
    fs::write(folder.main(), b"\xff\xfe").unwrap();
    assert_eq!(folder.told(), "Cannot read the settings vgpud.toml");
    let folder = Folder::with(None, &[]);
    fs::write(folder.0.path().join("vgpud.toml.d"), "").unwrap();
    assert_eq!(folder.told(), "Cannot read the settings vgpud.toml.d");
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "(\\[(daemon|gpu|run|x)?\\]?|\n|[a-z]{1,6}|=|\"|[0-9:.]{1,9}|é| ){0,20}") {
        let _ = Folder::with(Some(&text), &[]).load();
    }

    #[test]
    fn a_damaged_example_is_never_taken_for_something_else_silently(at in 0_usize..1500, byte in " -~") {
        let mut text = Settings::EXAMPLE.to_owned();
        let at = at.min(text.len() - 1);
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(at..=at, &byte);
            if let Err(error) = Folder::with(Some(&text), &[]).load() {
                let text = error.to_string();
                proptest::prop_assert!(text.contains("vgpud.toml, line "), "{}", text);
            }
        }
    }
}

#[test]
fn a_quota_is_of_an_owner_and_of_all_below_it() {
    let settings =
        loaded("[quota.default]\nslices = 4\nmemory = \"80GiB\"\n[quota.owner.\"team-a\"]\nslices = 8\n");
    let of = |owner: &str| settings.quota.of(&owner.parse().unwrap());
    for owner in ["team-a", "team-a/train-3"] {
        let own = Quota { slices: Some(8), memory: None };
        assert_eq!(of(owner), Allowance { quota: own, table: "[quota.owner.\"team-a\"]".to_owned() });
    }
    let other = of("team-b/x");
    assert_eq!((other.quota.slices, other.quota.memory), (Some(4), Some(Memory::from_bytes(80 << 30))));
    assert_eq!(other.table, "[quota.default]");
    assert!(Settings::default().quota.of(&"team-a".parse().unwrap()).quota.is_none());
    let refused = told("[quota.owner.\"team-a/x\"]\nslices = 1");
    assert!(refused.contains("write the quota of team-a"), "{refused}");
}

#[test]
fn a_class_is_a_profile_or_a_size() {
    let settings = loaded(
        "[class.small]\nmemory = \"10GiB\"\ncompute = \"25%+\"\nenforced = true\n[class.whole]\nprofile = \"vf-1\"\n\
         [class.capped]\ncompute = \"50%\"",
    );
    let class = |name: &str| settings.classes[&name.parse().unwrap()].clone();
    let size = |memory: Option<u64>, compute: &str| ClassWant::Size {
        memory: memory.map(Memory::from_bytes),
        compute: Some(compute.parse().unwrap()),
    };
    assert_eq!(class("small"), ClassSettings { want: size(Some(10 << 30), "25%+"), enforced: true });
    assert_eq!(class("capped"), ClassSettings { want: size(None, "50%"), enforced: false });
    assert_eq!(class("whole").want, ClassWant::Profile("vf-1".parse().unwrap()));
    let nothing =
        "`x` in [class] cannot be [class.x]: a class asks for something; write memory, compute or profile";
    let unenforced = "`x` in [class] cannot be [class.x]: there is no compute to enforce; write compute too, or leave enforced out";
    let cases = [
        ("[class.x]", nothing),
        ("[class.x]\nenforced = true\nmemory = \"1GiB\"", unenforced),
        ("[class.x]\nenforced = true\nprofile = \"vf-1\"", unenforced),
        (
            "[class.x]\nprofile = \"vf-1\"\ncompute = \"5%\"",
            "`x` in [class] cannot be [class.x]: a profile has its own memory and compute; write a profile, or memory and compute",
        ),
        (
            "[class.X]\ncompute = \"5%\"",
            "`X` in [class] cannot be X: \"X\" cannot be the name of a class; write 1 to 63 characters of a-z 0-9 -, a letter \
             or digit at both ends",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), format!("vgpud.toml, line 1: {expected}"), "{text}");
    }
    assert_eq!(
        told("[class.x]\ncompute = \"5%-\""),
        "vgpud.toml, line 2: `compute` in [class.x] cannot be \"5%-\": it is not a request for compute; write a percentage from \
         0.01% to 100%: 25% as a cap, 25%+ as a floor with what is idle beside it; as in compute = \"25%+\""
    );
    // Each file alone is a class; together they contradict each other.
    let later = [("9.toml", "[class.x]\nprofile = \"vf-1\"")];
    let refused = Folder::with(Some("[class.x]\nmemory = \"1GiB\""), &later).told();
    assert!(refused.contains("cannot be used together: a profile has its own"), "{refused}");
}

#[test]
fn a_consumer_is_a_user_and_a_group_of_the_host() {
    assert_eq!(Settings::default().vfio.consumer().to_string(), "root");
    assert_eq!(loaded("[vfio]\nuser = \"qemu\"\ngroup = \"kvm\"").vfio.consumer().to_string(), "qemu:kvm");
    assert!(told("[vfio]\nuser = \"two words\"").contains("two words"));
}

#[test]
fn layouts_are_read_and_merged_by_gpu() {
    let main = r#"
        [class.small]
        memory = "10GiB"
        [layout.day.all]
        slices = [{ class = "small", count = 4 }]
        [layout.day."41:00.0"]
        slices = [{ profile = "vf-8", count = 8 }]
    "#;
    let drop_in =
        "[layout.day.\"0000:41:00.0\"]\nslices = []\n[layout.\"A40-8Q\".\"10DE:2235\"]\nslices = []\n";
    let settings = Folder::with(Some(main), &[("10.toml", drop_in)]).load().unwrap();
    let names: Vec<_> = settings.layouts.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["A40-8Q", "day"]);
    let day = &settings.layouts[&"day".parse().unwrap()];
    let gpu = day.entry("0000:41:00.0".parse().unwrap(), "1002:74a1".parse().unwrap()).unwrap();
    assert!(gpu.slices.is_empty(), "another spelling of the same GPU, in a later file");
    assert_eq!(day.entries.len(), 2);
}

#[test]
fn a_mistake_in_a_layout_is_told_with_its_place() {
    for (text, wanted) in [
        (
            "[layout.day.all]\nslices = []\n[layout.day.\"0000:41:00.0\"]\nslices = []\n[layout.day.\"41:00.0\"]\nslices = []",
            &["vgpud.toml, line 5", "`41:00.0` in [layout.day]", "is the same as \"0000:41:00.0\"; keep one"]
                [..],
        ),
        (
            "[layout.day.\"1002:74A1\"]\nslices = []\n[layout.day.\"1002:74a1\"]\nslices = []",
            &["`1002:74a1` in [layout.day]", "keep one"],
        ),
        ("[layout.day.all]\nslice = []", &["line 2", "there is no key `slice`", "did you mean `slices`?"]),
        (
            "[layout.day.all]\nslices = [\n  { profil = \"vf-8\", count = 1 },\n]",
            &["line 3", "there is no key `profil`", "did you mean `profile`?"],
        ),
        (
            "[layout.day.all]\nslices = [{ profile = \"vf-8\", count = 0 }]",
            &["line 2", "`slices` in [layout.day.all]", "a count of 0 cannot be; write 1 to 4096"],
        ),
        (
            "[layout.day.all]\nslices = [{ profile = \"vf 8\", count = 1 }]",
            &["line 2", "cannot be the name of a profile; write 1 to 128 characters"],
        ),
        ("[layout.day.gpu0]\nslices = []", &["line 1", "write an address such as 0000:41:00.0"]),
        (
            "[layout.day.all]\nslices = [{ class = \"small\", count = 1 }]",
            &["[layout.day] asks for the class small", "there is no [class.small]; write one"],
        ),
    ] {
        let told = told(text);
        for part in wanted {
            assert!(told.contains(part), "{text}\n{told}");
        }
    }
}
