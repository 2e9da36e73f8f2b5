//! The CDI folders' health: one broken file there fails every sandbox that asks for a CDI device,
//! whoever wrote it.
//!
//! JSON files are parsed; of YAML files only the top-level keys are looked at, so a file that
//! passes here may still be broken YAML.

use crate::cdi::CdiFolder;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use vgpud_config::{Quoted, Settings, Shown};
use vgpud_mdev::Host;
use vgpud_vmm::doctor::Check;

const NAME: &str = "cdi";
/// The folders that Kata reads; neither of its runtimes lets them be configured.
const READ_BY_KATA: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// The newest version that Kata's Go runtime reads.
const NEWEST: [u64; 3] = [0, 6, 0];

/// What is wrong with one file, and how bad it is.
enum Fault {
    /// Every sandbox with a CDI device fails.
    Broken(String),
    /// Those of Kata's Go runtime fail.
    TooNew(String),
    /// A device of another folder has the name, and the runtimes disagree on which one wins.
    Ambiguous { device: String, other: PathBuf },
}

/// The devices found so far, each with its folder (by position) and file.
type Devices = BTreeMap<String, (usize, PathBuf)>;

/// Checks the settings of CDI and every CDI file on the host. Reads only.
#[must_use]
pub fn examine(host: &Host, settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Err(error) = CdiFolder::new(host, &settings.cdi) {
        checks.push(Check::fail(NAME, error.to_string(), "set kind under [cdi] to vendor/class"));
    }
    let ours = &settings.cdi.dir;
    let mut dirs: Vec<&Path> = READ_BY_KATA.iter().map(Path::new).collect();
    if !dirs.contains(&ours.as_path()) && ours != Path::new("/run/cdi") {
        let found =
            format!("vgpud writes CDI files to {}, and Kata reads /etc/cdi and /var/run/cdi", ours.display());
        checks.push(Check::warn(NAME, found, "set dir under [cdi] to /var/run/cdi"));
        dirs.push(ours);
    }
    let mut files = Vec::new();
    for (position, dir) in dirs.into_iter().enumerate() {
        if let Err(error) = collect(&host.path(dir), position, &mut files) {
            let found = format!("{} cannot be read: {error}", dir.display());
            checks.push(Check::fail(NAME, found, "make it a folder that root can read, or remove it"));
        }
    }
    let mut devices = Devices::new();
    for (position, file) in &files {
        match read(file, *position, &mut devices) {
            Ok(()) => {}
            Err(Fault::Ambiguous { device, other }) => {
                let found = format!(
                    "{} and {} both name {}: Kata's runtime-rs takes the one in /etc/cdi, its Go runtime the other",
                    other.display(),
                    file.display(),
                    Shown(&device)
                );
                checks.push(Check::warn(NAME, found, "remove one of the files"));
            }
            Err(Fault::Broken(why)) => {
                let found = format!("{} {why}, and fails every sandbox with a CDI device", file.display());
                checks.push(Check::fail(NAME, found, "mend or remove the file, or generate it anew"));
            }
            Err(Fault::TooNew(version)) => {
                let found = format!(
                    "{} is of CDI {}, and Kata's Go runtime reads up to 0.6.0",
                    file.display(),
                    Shown(&version)
                );
                checks.push(Check::warn(
                    NAME,
                    found,
                    "use Kata's runtime-rs, or generate the file with an older version",
                ));
            }
        }
    }
    if checks.is_empty() {
        checks.push(Check::pass(NAME, format!("CDI files that can be read: {}", files.len())));
    }
    checks
}

/// Adds the CDI files below `dir`, in order. Kata's runtime-rs looks into sub-folders too.
fn collect(dir: &Path, position: usize, files: &mut Vec<(usize, PathBuf)>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            collect(&path, position, files)?;
        } else if ["json", "yaml"].iter().any(|suffix| extension.eq_ignore_ascii_case(suffix)) {
            files.push((position, path));
        }
    }
    Ok(())
}

fn read(file: &Path, position: usize, devices: &mut Devices) -> Result<(), Fault> {
    let text = match fs::read_to_string(file) {
        // Its owner withdrew it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !file.is_symlink() => return Ok(()),
        other => other.map_err(|error| Fault::Broken(format!("cannot be read ({error})")))?,
    };
    let json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let version = match serde_json::from_str::<Value>(&text) {
        Ok(spec) => {
            let missing = |what: &str| Fault::Broken(format!("has no {what}"));
            let kind = spec["kind"].as_str().ok_or_else(|| missing("kind"))?;
            let listed = spec["devices"]
                .as_array()
                .filter(|list| !list.is_empty())
                .ok_or_else(|| missing("devices"))?;
            for device in listed {
                let name = device["name"].as_str().ok_or_else(|| missing("name for one of its devices"))?;
                let name = format!("{kind}={name}");
                match devices.insert(name.clone(), (position, file.to_owned())) {
                    None => {}
                    Some((folder, other)) if folder == position => {
                        return Err(Fault::Broken(format!(
                            "names {}, as {} does",
                            Shown(&name),
                            other.display()
                        )));
                    }
                    Some((_, other)) => return Err(Fault::Ambiguous { device: name, other }),
                }
            }
            spec["cdiVersion"].as_str().map(str::to_owned)
        }
        Err(error) if json => return Err(Fault::Broken(format!("is no JSON ({error})"))),
        Err(_) => {
            let top = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            for key in ["kind", "devices"] {
                top(key).ok_or_else(|| Fault::Broken(format!("has no {key}")))?;
            }
            top("cdiVersion").map(|version| version.trim().trim_matches(['"', '\'']).to_owned())
        }
    };
    let version = version.ok_or_else(|| Fault::Broken("has no cdiVersion".to_owned()))?;
    let numbers = version.split('.').map(str::parse).collect::<Result<Vec<u64>, _>>();
    match numbers.as_deref() {
        Ok(numbers @ [_, _, _]) if numbers <= &NEWEST[..] => Ok(()),
        Ok([_, _, _]) => Err(Fault::TooNew(version)),
        _ => Err(Fault::Broken(format!("says cdiVersion {}, which is none", Quoted(&version)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;
    use vgpud_vmm::doctor::Verdict;

    const GOOD: &str =
        r#"{"cdiVersion":"0.5.0","kind":"a.b/c","devices":[{"name":"d","containerEdits":{}}]}"#;

    fn host(files: &[(&str, &str)]) -> (TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::new(dir.path());
        (dir, host)
    }

    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let (_dir, host) = host(files);
        let checks = examine(&host, &Settings::default());
        checks.into_iter().filter(|check| check.verdict != Verdict::Pass).map(|check| check.found).collect()
    }

    #[test]
    fn good_files_and_none_pass() {
        assert_eq!(faults(&[]), Vec::<String>::new());
        let yaml = "---\ncdiVersion: \"0.6.0\"\nkind: x.y/z\ndevices:\n- name: d\n";
        let other = GOOD.replace("a.b", "vgpud.io");
        let files = [
            ("etc/cdi/a.json", GOOD),
            ("var/run/cdi/b.yaml", yaml),
            ("var/run/cdi/sub/c.JSON", other.as_str()),
            ("var/run/cdi/.vgpud-s1.part", "{"),
        ];
        let (_dir, host) = host(&files);
        let checks = examine(&host, &Settings::default());
        assert_eq!(checks, [Check::pass("cdi", "CDI files that can be read: 3")]);
    }

    #[test]
    fn each_broken_file_is_named() {
        for (name, text, expected) in [
            ("torn.json", "{\"cdiVer", "is no JSON"),
            (".hidden.json", "", "is no JSON"),
            ("no-kind.json", r#"{"cdiVersion":"0.5.0","devices":[{"name":"d"}]}"#, "has no kind"),
            ("no-devices.json", r#"{"cdiVersion":"0.5.0","kind":"a/b","devices":[]}"#, "has no devices"),
            ("no-version.json", r#"{"kind":"a/b","devices":[{"name":"d"}]}"#, "has no cdiVersion"),
            (
                "odd-version.json",
                r#"{"cdiVersion":"5","kind":"a/b","devices":[{"name":"d"}]}"#,
                "which is none",
            ),
            ("no-kind.yaml", "cdiVersion: 0.5.0\ndevices: []\n", "has no kind"),
            ("empty.yaml", "", "has no kind"),
        ] {
            let found = faults(&[(&format!("var/run/cdi/{name}"), text)]);
            assert!(found.len() == 1 && found[0].contains(name) && found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn a_device_named_twice_and_a_version_too_new_are_told() {
        let twice = faults(&[("var/run/cdi/a.json", GOOD), ("var/run/cdi/b.json", GOOD)]);
        assert!(twice.len() == 1 && twice[0].contains("b.json names a.b/c=d, as "), "{twice:?}");
        let twice = faults(&[("etc/cdi/a.json", GOOD), ("var/run/cdi/b.json", GOOD)]);
        assert!(twice.len() == 1 && twice[0].contains("b.json both name a.b/c=d: "), "{twice:?}");
        let new = faults(&[("var/run/cdi/a.json", &GOOD.replace("0.5.0", "1.0.0"))]);
        assert!(new.len() == 1 && new[0].contains("is of CDI 1.0.0"), "{new:?}");
    }

    #[test]
    fn settings_that_kata_does_not_follow_are_told() {
        let (_dir, host) = host(&[]);
        let mut settings = Settings::default();
        settings.cdi.dir = "/srv/cdi".into();
        settings.cdi.kind = "slice".into();
        let checks = examine(&host, &settings);
        assert!(matches!(checks[0].verdict, Verdict::Fail { .. }), "{checks:?}");
        assert!(checks[1].found.contains("/srv/cdi") && matches!(checks[1].verdict, Verdict::Warn { .. }));
    }
}
