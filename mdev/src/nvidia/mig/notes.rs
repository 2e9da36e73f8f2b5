//! What vgpud has changed of a GPU's MIG, so that it takes back that and no more.
//!
//! A file for each GPU in `/run`, which ends with the host's run as GPU instances do. A line is written
//! before what it tells of is done, and taken out after that is undone: what is noted may not be there, and
//! nothing is there that is not noted.
//!
//! ```text
//! mode off            MIG was off before vgpud turned it on
//! instance 19 3       vgpud made a GPU instance of profile 19 at memory slice 3
//! ```

use crate::{Error, Host, PciAddress, attribute};
use std::{collections::BTreeSet, fmt::Write as _, fs, io, path::PathBuf};
use vgpud_config::MigMode;

/// The notes of one GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notes<'a> {
    pub(super) host: &'a Host,
    pub(super) gpu: PciAddress,
}

/// What they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) mode_before: Option<MigMode>,
    /// By profile and first memory slice.
    instances: BTreeSet<(u32, u8)>,
}

impl Noted {
    pub(super) fn made(&self, profile: u32, start: u8) -> bool {
        self.instances.contains(&(profile, start))
    }

    pub(super) fn is_without_instances(&self) -> bool {
        self.instances.is_empty()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(mode) = self.mode_before {
            text.push_str(&format!("mode {mode}\n"));
        }
        for (profile, start) in &self.instances {
            // Writing to a string does not fail.
            let _ = writeln!(text, "instance {profile} {start}");
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut noted = Self::default();
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["mode", "on"] => noted.mode_before = Some(MigMode::On),
                ["mode", "off"] => noted.mode_before = Some(MigMode::Off),
                ["instance", profile, start] => {
                    noted.instances.insert((profile.parse().ok()?, start.parse().ok()?));
                }
                _ => return None,
            }
        }
        Some(noted)
    }
}

impl Notes<'_> {
    fn path(&self) -> PathBuf {
        self.host.mig_notes().join(self.gpu.to_string())
    }

    pub(super) fn read(&self) -> Result<Noted, Error> {
        let path = self.path();
        let Some(content) = attribute::read(&path)? else { return Ok(Noted::default()) };
        Noted::parse(&content).ok_or(Error::Content { path, content, wanted: "vgpud's notes of MIG" })
    }

    pub(super) fn mode_before(&self, mode: Option<MigMode>) -> Result<(), Error> {
        self.change(|noted| noted.mode_before = mode)
    }

    pub(super) fn add(&self, profile: u32, start: u8) -> Result<(), Error> {
        self.change(|noted| noted.instances.extend([(profile, start)]))
    }

    pub(super) fn remove(&self, profile: u32, start: u8) -> Result<(), Error> {
        self.change(|noted| noted.instances.retain(|made| *made != (profile, start)))
    }

    /// No more than those GPU instances are there.
    pub(super) fn keep(&self, there: &[(u32, u8)]) -> Result<(), Error> {
        self.change(|noted| noted.instances.retain(|made| there.contains(made)))
    }

    /// None is there any more.
    pub(super) fn forget_instances(&self) -> Result<(), Error> {
        self.keep(&[])
    }

    /// The file is replaced as a whole: a reader, or a vgpud that comes after a crash, finds the old or the
    /// new one.
    fn change(&self, change: impl FnOnce(&mut Noted)) -> Result<(), Error> {
        let before = self.read()?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        let path = self.path();
        let text = after.text();
        let write = || -> io::Result<()> {
            if text.is_empty() {
                return fs::remove_file(&path);
            }
            let folder = self.host.mig_notes();
            if !fs::exists(&folder)? {
                fs::create_dir_all(&folder)?;
            }
            let new = path.with_extension("new");
            fs::write(&new, &text)?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| Error::Note { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again_and_nothing_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::new(folder.path());
        let gpu = "0000:41:00.0".parse().unwrap();
        let notes = Notes { host: &host, gpu };
        assert_eq!(notes.read().unwrap(), Noted::default());
        notes.mode_before(Some(MigMode::Off)).unwrap();
        notes.add(19, 3).unwrap();
        notes.add(0, 0).unwrap();
        let path = folder.path().join("run/vgpud/mig/0000:41:00.0");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mode off\ninstance 0 0\ninstance 19 3\n");
        let noted = notes.read().unwrap();
        assert!(noted.made(19, 3) && noted.made(0, 0) && !noted.made(19, 0));
        assert_eq!(noted.mode_before, Some(MigMode::Off));
        notes.remove(19, 3).unwrap();
        notes.forget_instances().unwrap();
        notes.mode_before(None).unwrap();
        assert!(!path.try_exists().unwrap());
        fs::write(&path, "mode perhaps\n").unwrap();
        let told = notes.read().unwrap_err().to_string();
        assert!(told.contains("\"mode perhaps\", which is not vgpud's notes of MIG"), "{told}");
    }
}
