//! Reads the machine's apt sources, to fetch the lab's Debian from where the machine fetches its own.
//!
//! Both formats of sources.list(5) are read: deb822 (`*.sources`) and one line an entry (`*.list`).
//! No address stands in the code: mirrors, proxies and closed networks go on working.

use std::fs;
use std::path::Path;

use crate::error::{At, Error, Result};

/// One entry of type `deb`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    pub uris: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// A keyring's path, or a key's fingerprint.
    pub signed_by: Option<String>,
}

impl Source {
    /// How surely the entry serves Debian's main archive of release `codename`; `None` for surely
    /// not. Third parties use Debian's code names as their suites too, so keyring and path decide.
    fn score(&self, codename: &str) -> Option<u8> {
        let suites = [codename, "stable", "oldstable", "testing", "unstable", "sid"];
        let named = self.suites.iter().any(|suite| suites.contains(&suite.as_str()));
        let main = self.components.iter().any(|component| component == "main");
        let first = self.uris.first()?;
        if !named || !main {
            return None;
        }
        let keyring = match &self.signed_by {
            Some(path) if path.contains("debian-archive") => 2,
            None => 1,
            Some(_) => return None,
        };
        // mirror+file:/etc/apt/mirrors/debian.list is how Debian's cloud images name it.
        let path = first.trim_end_matches('/').trim_end_matches(".list");
        Some(keyring + u8::from(path.ends_with("/debian")) * 2)
    }

    /// The one-line entry that serves `suite` from the same place.
    #[must_use]
    pub fn line_for(&self, suite: &str) -> Option<String> {
        let uri = self.uris.first()?;
        let options = self.signed_by.as_ref().map(|key| format!("[signed-by={key}] ")).unwrap_or_default();
        Some(format!("deb {options}{uri} {suite} main"))
    }
}

/// The entry of this machine that serves Debian's main archive.
///
/// # Errors
/// A file could not be read, or no entry does.
pub fn debian_archive(apt: &Path, os_release: &Path) -> Result<Source> {
    let release = fs::read_to_string(os_release).at("read", os_release)?;
    let codename = codename(&release).unwrap_or_default();
    let mut entries = Vec::new();
    let mut files = vec![apt.join("sources.list")];
    let parts = apt.join("sources.list.d");
    if parts.is_dir() {
        for entry in fs::read_dir(&parts).at("list", &parts)? {
            files.push(entry.at("list", &parts)?.path());
        }
    }
    files.sort();
    for file in files.iter().filter(|file| file.is_file()) {
        let text = || fs::read_to_string(file).at("read", file);
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => entries.extend(parse_deb822(&text()?)),
            Some("list") => entries.extend(text()?.lines().filter_map(parse_line)),
            _ => {}
        }
    }
    best(entries, codename)
        .ok_or_else(|| Error::NoArchive { looked_at: apt.join("sources.list*").display().to_string() })
}

fn best(entries: Vec<Source>, codename: &str) -> Option<Source> {
    entries
        .into_iter()
        .filter_map(|entry| Some((entry.score(codename)?, entry)))
        // The first of the best: max_by_key would give the last.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, entry)| entry)
}

fn codename(os_release: &str) -> Option<&str> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|value| value.trim_matches('"'))
}

/// The enabled `deb` stanzas of a deb822 file.
#[must_use]
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).map(str::trim_end).collect();
    lines.split(|line| line.is_empty()).filter_map(parse_stanza).collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let mut source = Source::default();
    let mut types = Vec::new();
    let mut enabled = true;
    for field in fields(lines) {
        let (name, value) = field.split_once(':')?;
        let words = || value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        match name.trim().to_ascii_lowercase().as_str() {
            "types" => types = words(),
            "uris" => source.uris = words(),
            "suites" => source.suites = words(),
            "components" => source.components = words(),
            // An inline key is left out: mmdebstrap finds Debian's own keyring by itself.
            "signed-by" if !value.contains("BEGIN PGP") => source.signed_by = words().pop(),
            "enabled" => enabled = !matches!(value.trim(), "no" | "false" | "0"),
            _ => {}
        }
    }
    (enabled && types.iter().any(|of| of == "deb")).then_some(source)
}

/// Joins the continuation lines, which begin with white space, to their field.
fn fields(lines: &[&str]) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for line in lines {
        match fields.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => fields.push((*line).to_owned()),
        }
    }
    fields
}

/// One line of a `*.list` file, when it is an entry of type `deb`.
#[must_use]
pub fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned),
    })
}

#[cfg(test)]
mod tests;
