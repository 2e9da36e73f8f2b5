//! Layouts as they stand in a settings file.

use super::{ImportFormat, Imported};
use crate::{GpuChoice, LayoutSlices, LayoutWant};
use std::fmt::{self, Write as _};

impl Imported {
    /// As the text of a file in `/etc/vgpud/vgpud.toml.d/`. `from` names where it came from.
    #[must_use]
    pub fn to_toml(&self, from: &str) -> String {
        // A file's name may hold anything; a comment ends with its line.
        let from = crate::printable(from).replace('\n', " ");
        let mut text = format!("# Layouts out of {from}, a file of NVIDIA's {}.\n", self.format.name());
        if self.format == ImportFormat::MigParted {
            text.push_str(
                "# MIG itself is on or off by `mig` of each GPU's table, [gpu.\"ADDRESS\"], or as it is.\n",
            );
        }
        let has_all = self.layouts.values().any(|layout| layout.entries.contains_key(&GpuChoice::All));
        if has_all {
            text.push_str(
                "# all: the GPUs of every maker. On a host with others beside NVIDIA's, write vendor:device instead.\n",
            );
        }
        for (name, layout) in &self.layouts {
            for (choice, entry) in &layout.entries {
                // Writing to a String does not fail.
                let _ = writeln!(text, "\n[layout.\"{name}\".\"{choice}\"]");
                let slices: Vec<String> =
                    entry.slices.iter().map(|slices| Written(slices).to_string()).collect();
                let _ = match &slices[..] {
                    [] => writeln!(text, "slices = []"),
                    slices => writeln!(text, "slices = [\n    {},\n]", slices.join(",\n    ")),
                };
            }
        }
        text
    }
}

/// One element of the list. No name holds anything that TOML would have to escape.
struct Written<'a>(&'a LayoutSlices);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LayoutSlices { want, count } = self.0;
        f.write_str("{ ")?;
        match want {
            LayoutWant::Profile(profile) => write!(f, "profile = \"{profile}\", ")?,
            LayoutWant::Class(class) => write!(f, "class = \"{class}\", ")?,
            LayoutWant::Size { memory, compute } => {
                if let Some(memory) = memory {
                    write!(f, "memory = \"{memory}\", ")?;
                }
                if let Some(compute) = compute {
                    write!(f, "compute = \"{compute}\", ")?;
                }
            }
        }
        write!(f, "count = {count} }}")
    }
}
