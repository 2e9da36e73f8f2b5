//! Profile files of NVIDIA's managers.

use crate::message;
use vgpud_config::{
    Settings,
    import::{ImportError, import},
};

/// A file of vgpu-device-manager or mig-parted: what is taken over, vgpud reads as the same.
pub fn layout_import(data: &[u8]) {
    let text = &crate::text(data);
    match import(text, &[]) {
        Ok(imported) => {
            let written = imported.to_toml(text.lines().next().unwrap_or_default());
            let folder = crate::folder();
            let path = folder.path().join("layouts.toml");
            std::fs::write(&path, &written).unwrap();
            let settings = Settings::load(&path).unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(settings.layouts, imported.layouts, "{written:?}");
        }
        Err(error) => {
            message::check_error(&error, "");
            let lines = u64::try_from(text.lines().count()).unwrap() + 1;
            if let ImportError::Unread { line: Some(line), .. } | ImportError::Version { line, .. } = error {
                assert!((1..=lines).contains(&line), "line {line} of {lines}");
            }
        }
    }
}
