//! The settings file and a drop-in.

use crate::message;
use std::{fs, path::Path};
use vgpud_config::{Settings, SettingsError};

/// Divides the input into the file and a drop-in.
const DROP_IN: &str = "\n### drop-in\n";

/// A settings file; with the line `### drop-in` in it, two.
pub fn settings(data: &[u8]) {
    let folder = crate::folder();
    let main = folder.path().join("vgpud.toml");
    let marker = data.windows(DROP_IN.len()).position(|window| window == DROP_IN.as_bytes());
    let (first, second) = match marker {
        Some(at) => (&data[..at], Some(&data[at + DROP_IN.len()..])),
        None => (data, None),
    };
    fs::write(&main, first).unwrap();
    if let Some(second) = second {
        let folder = folder.path().join("vgpud.toml.d");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("10.toml"), second).unwrap();
    }
    match Settings::load(&main) {
        Ok(settings) => usable(&settings),
        Err(error) => told(&error, data, folder.path()),
    }
}

/// What the rest of vgpud takes for granted of settings.
fn usable(settings: &Settings) {
    assert!(settings.daemon.socket.is_absolute() && settings.daemon.state_dir.is_absolute());
    assert!(settings.run.memory.bytes() > 0);
    // Sums of all waits.
    let _ = vgpud::fuzzing::patience(settings);
}

/// With the file; line and key where the error is about one.
fn told(error: &SettingsError, data: &[u8], folder: &Path) {
    message::check_error(error, "");
    let text = error.to_string();
    assert!(text.contains(&*folder.to_string_lossy()), "{text}");
    let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
    match error {
        SettingsError::Syntax { line, .. } => assert!((1..=lines).contains(line), "line {line}: {text}"),
        SettingsError::UnknownKey { at, .. }
        | SettingsError::Value { at, .. }
        | SettingsError::Twice { at, .. } => {
            assert!((1..=lines).contains(&at.line), "{text}");
            // A key can be an empty text in quotes.
            let empty = [b"\"\"", b"''"].iter().any(|quotes| data.windows(2).any(|two| two == *quotes));
            assert!(!at.key.is_empty() || empty, "no key is named: {text}");
        }
        // No TOML, for it is no UTF-8.
        SettingsError::Read { .. } => assert!(std::str::from_utf8(data).is_err(), "{text}"),
        // Each of the two was understood alone.
        SettingsError::Merged { .. } => {}
    }
}
