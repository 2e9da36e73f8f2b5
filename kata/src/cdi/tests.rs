use super::*;
use container_device_interface::{
    cache::{Cache, new_cache},
    spec_dirs::with_spec_dirs,
};
use nix::sys::stat::{SFlag, makedev, mknod};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    sync::atomic::{AtomicBool, Ordering},
};
use tempfile::TempDir;
use vgpud_config::CdiSettings;

const NODE: &str = "/dev/vfio/devices/vfio0";

fn folder() -> (TempDir, Host, CdiFolder) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path());
    let cdi = CdiFolder::new(&host, &CdiSettings::default()).unwrap();
    (dir, host, cdi)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Kata's own reader on the folder.
fn judge(cdi: &CdiFolder) -> std::sync::Arc<std::sync::Mutex<Cache>> {
    new_cache(vec![with_spec_dirs(&[cdi.dir.to_str().unwrap()])])
}

#[test]
fn the_file_is_exactly_what_kata_takes() {
    let (_dir, _, cdi) = folder();
    assert_eq!(cdi.publish("s17", Path::new(NODE)).unwrap(), "vgpud.io/slice=s17");
    let file = cdi.dir.join("vgpud-s17.json");
    let found: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    // Go's 0.6.0 reader unmarshals strictly, so each field counts; nothing here needs more than 0.5.0.
    let expected = json!({
        "cdiVersion": "0.5.0",
        "kind": "vgpud.io/slice",
        "devices": [{ "name": "s17", "containerEdits": { "deviceNodes": [{ "path": NODE }] } }],
    });
    assert_eq!(found, expected);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::metadata(&cdi.dir).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(names(&cdi.dir), ["vgpud-s17.json"]);
}

#[test]
fn kata_s_reader_finds_the_devices_and_needs_no_newer_version() {
    let (_dir, _, cdi) = folder();
    cdi.publish("s17", Path::new(NODE)).unwrap();
    cdi.publish("0000:f0:01.0", Path::new("/dev/vfio/12")).unwrap();
    let judge = judge(&cdi);
    let mut judge = judge.lock().unwrap();
    judge.refresh().unwrap();
    assert_eq!(judge.list_devices(), ["vgpud.io/slice=0000:f0:01.0", "vgpud.io/slice=s17"]);
    for spec in judge.get_vendor_specs("vgpud.io") {
        let needed = container_device_interface::version::minimum_required_version(&spec.cdi_spec).unwrap();
        assert!(!needed.is_greater_than(&container_device_interface::version::VersionWrapper::new(VERSION)));
    }
}

#[test]
fn a_runtime_injects_the_node_into_a_container() {
    let (_dir, host, cdi) = folder();
    let node = host.path("/dev/vfio/12");
    fs::create_dir_all(node.parent().unwrap()).unwrap();
    if let Err(errno) = mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), makedev(1, 3)) {
        vgpud_mdev::fake::skip(format_args!("making a device node needs root: {errno}"));
        return;
    }
    let name = cdi.publish("s1", &node).unwrap();
    let judge = judge(&cdi);
    let mut container = oci_spec::runtime::Spec::default();
    judge.lock().unwrap().inject_devices(Some(&mut container), vec![name]).unwrap();
    let devices = container.linux().as_ref().unwrap().devices().as_ref().unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!((devices[0].path(), devices[0].major(), devices[0].minor()), (&node, 1, 3));
}

#[test]
fn withdrawing_is_idempotent_and_leaves_foreign_files_alone() {
    let (_dir, _, cdi) = folder();
    cdi.withdraw("s1").unwrap();
    assert_eq!(cdi.published().unwrap(), Vec::<String>::new());
    cdi.publish("s2", Path::new(NODE)).unwrap();
    cdi.publish("s1", Path::new("/dev/vfio/12")).unwrap();
    for foreign in ["nvidia.yaml", "vgpud.json", "vgpud-.json", "vgpud-s1.json.bak", "s1.json"] {
        fs::write(cdi.dir.join(foreign), "theirs").unwrap();
    }
    assert_eq!(cdi.published().unwrap(), ["s1", "s2"]);
    for device in ["s1", "s1", "s2"] {
        cdi.withdraw(device).unwrap();
    }
    assert_eq!(cdi.published().unwrap(), Vec::<String>::new());
    let left = ["nvidia.yaml", "s1.json", "vgpud-.json", "vgpud-s1.json.bak", "vgpud.json"];
    assert_eq!(names(&cdi.dir), left);
    assert!(left.iter().all(|name| fs::read(cdi.dir.join(name)).unwrap() == b"theirs"));
}

#[test]
fn what_an_interrupted_publication_left_is_no_hindrance_and_goes() {
    let (_dir, _, cdi) = folder();
    fs::create_dir_all(&cdi.dir).unwrap();
    let part = cdi.dir.join(".vgpud-s1.part");
    fs::write(&part, "{\"cdiVer").unwrap();
    judge(&cdi).lock().unwrap().refresh().unwrap();
    cdi.publish("s1", Path::new(NODE)).unwrap();
    assert_eq!(names(&cdi.dir), ["vgpud-s1.json"]);
    fs::write(&part, "{\"cdiVer").unwrap();
    cdi.withdraw("s1").unwrap();
    assert_eq!(names(&cdi.dir), Vec::<String>::new());
}

#[test]
fn planted_files_are_replaced_and_removed_and_never_followed_or_written_to() {
    type Plant = fn(&Path, &Path);
    let plants: [Plant; 3] = [
        |target, name| symlink(target, name).unwrap(),
        |target, name| fs::hard_link(target, name).unwrap(),
        |_, name| nix::unistd::mkfifo(name, Mode::from_bits_truncate(0o600)).unwrap(),
    ];
    for plant in plants {
        let (_dir, host, cdi) = folder();
        let target = host.path("/precious");
        fs::create_dir_all(&cdi.dir).unwrap();
        fs::write(&target, "precious").unwrap();
        for name in ["vgpud-s1.json", ".vgpud-s1.part", "vgpud-s2.json"] {
            plant(&target, &cdi.dir.join(name));
        }
        cdi.publish("s1", Path::new(NODE)).unwrap();
        assert!(fs::symlink_metadata(cdi.dir.join("vgpud-s1.json")).unwrap().is_file());
        cdi.withdraw("s2").unwrap();
        assert_eq!(names(&cdi.dir), ["vgpud-s1.json"]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }
}

#[test]
fn a_folder_that_others_may_write_to_gets_no_file_but_loses_ours() {
    let (_dir, _, cdi) = folder();
    cdi.publish("s1", Path::new(NODE)).unwrap();
    fs::set_permissions(&cdi.dir, fs::Permissions::from_mode(0o777)).unwrap();
    let error = cdi.publish("s2", Path::new(NODE)).unwrap_err().to_string();
    assert!(error.contains("mode 0777") && error.contains("chmod 0755"), "{error}");
    assert_eq!(names(&cdi.dir), ["vgpud-s1.json"]);
    cdi.withdraw("s1").unwrap();
    assert_eq!(names(&cdi.dir), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_a_link_or_a_file_is_refused() {
    for plant in [(|dir| symlink("/tmp", dir).unwrap()) as fn(&Path), |dir| fs::write(dir, "").unwrap()] {
        let (_dir, _, cdi) = folder();
        fs::create_dir_all(cdi.dir.parent().unwrap()).unwrap();
        plant(&cdi.dir);
        for error in [
            cdi.publish("s1", Path::new(NODE)).unwrap_err(),
            cdi.withdraw("s1").unwrap_err(),
            cdi.published().unwrap_err(),
        ] {
            assert!(matches!(error, Error::Folder { .. }), "{error}");
        }
    }
}

#[test]
fn a_failed_publication_leaves_nothing() {
    let (_dir, _, cdi) = folder();
    fs::create_dir_all(cdi.dir.join("vgpud-s1.json/in-the-way")).unwrap();
    let error = cdi.publish("s1", Path::new(NODE)).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert_eq!(names(&cdi.dir), ["vgpud-s1.json"]);
    assert!(matches!(cdi.withdraw("s1"), Err(Error::Remove { .. })));
}

#[test]
fn nodes_that_break_a_sandbox_are_refused() {
    let (_dir, _, cdi) = folder();
    for node in ["/dev/vfio/vfio", "/dev/iommu", "/dev/dri/card0", "dev/vfio/12", "/dev/vfio/noiommu-0"] {
        assert!(matches!(cdi.publish("s1", Path::new(node)), Err(Error::Node { .. })), "{node}");
    }
    assert!(!cdi.dir.try_exists().unwrap());
}

#[test]
fn names_follow_the_rules_of_cdi() {
    let kind = |kind: &str| {
        let settings = CdiSettings { kind: kind.into(), ..CdiSettings::default() };
        CdiFolder::new(&Host::default(), &settings).map(drop).map_err(|error| error.to_string())
    };
    for good in ["vgpud.io/slice", "a/b", "Example-1.com/v_gpu-2"] {
        kind(good).unwrap();
    }
    for bad in
        ["", "slice", "/slice", "vgpud.io/", "1and1.com/x", "a/2x", "a-/b", "a/b/c", "a b/c", "a/b.c", "ä/b"]
    {
        kind(bad).unwrap_err();
    }
    assert_eq!(
        kind("vgpud.io/slice.v2").unwrap_err(),
        "\"vgpud.io/slice.v2\" is no CDI kind: a dot in the class needs CDI 0.6.0, and vgpud writes 0.5.0; \
         write vendor/class under [cdi], such as vgpud.io/slice"
    );
    let (_dir, _, cdi) = folder();
    for bad in ["", "../x", "a/b", ".x", "x.", "a b", "a=b", &"x".repeat(201)] {
        assert!(matches!(cdi.publish(bad, Path::new(NODE)), Err(Error::Device { .. })), "{bad}");
        assert!(cdi.withdraw(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_reader_never_sees_a_torn_file() {
    let (_dir, _, cdi) = folder();
    cdi.publish("keep", Path::new(NODE)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0_u32;
            while !done.load(Ordering::Relaxed) {
                for name in names(&cdi.dir) {
                    if !name.ends_with(".json") && !name.ends_with(".yaml") {
                        continue;
                    }
                    match fs::read(cdi.dir.join(&name)) {
                        Ok(text) => {
                            let spec: Value = serde_json::from_slice(&text).unwrap();
                            assert_eq!(spec["devices"].as_array().unwrap().len(), 1, "{name}");
                            seen += u32::from(name == "vgpud-s1.json");
                        }
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name}"),
                    }
                }
            }
            seen
        });
        for cycle in 0..1000 {
            cdi.publish("s1", Path::new(["/dev/vfio/12", NODE][cycle % 2])).unwrap();
            cdi.withdraw("s1").unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0, "the reader met no file at all");
    });
    assert_eq!(names(&cdi.dir), ["vgpud-keep.json"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_name_is_taken_kata_s_reader_takes_too(device in "[a-zA-Z0-9:._/= -]{1,12}") {
        let (_dir, _, cdi) = folder();
        if let Ok(name) = cdi.publish(&device, Path::new(NODE)) {
            let judge = judge(&cdi);
            let mut judge = judge.lock().unwrap();
            judge.refresh().unwrap();
            prop_assert_eq!(judge.list_devices(), [name]);
            prop_assert_eq!(cdi.published().unwrap(), [device]);
        }
    }
}
