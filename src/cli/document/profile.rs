//! Sizes that can be created.

use super::compute::Compute;
use crate::{
    api,
    cli::{
        output::Document,
        table::{Field, Grid, Kind, memory},
    },
};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Profiles {
    profiles: Vec<Profile>,
}

#[derive(Debug, Serialize)]
struct Profile {
    gpu: String,
    mechanism: String,
    name: String,
    memory_bytes: Option<u64>,
    #[serde(flatten)]
    compute: Compute,
    /// Instances that the GPU could hold when empty.
    capacity: u32,
    /// Instances that can be created now.
    available: u32,
    /// Why none is available now.
    unavailable: Option<String>,
}

impl Profiles {
    pub fn new(profiles: Vec<api::Profile>) -> Self {
        let profiles = profiles
            .into_iter()
            .map(|profile| Profile {
                gpu: profile.gpu,
                mechanism: profile.mechanism,
                name: profile.name,
                memory_bytes: profile.memory_bytes,
                compute: Compute::new(profile.compute_hundredths, profile.compute_cap, profile.compute_floor),
                capacity: profile.capacity,
                available: profile.available,
                unavailable: profile.unavailable,
            })
            .collect();
        Self { profiles }
    }

    pub const fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }
}

impl Document for Profiles {
    fn text(&self) -> String {
        let [share, cap, floor] = Compute::COLUMNS;
        let mut grid = Grid::new(&[
            ("GPU", Kind::Name),
            ("PROFILE", Kind::Name),
            ("CUT BY", Kind::Name),
            ("MEMORY", Kind::Number),
            share,
            cap,
            floor,
            ("AVAILABLE", Kind::Number),
            ("CAPACITY", Kind::Number),
        ]);
        for profile in &self.profiles {
            let [share, cap, floor] = profile.compute.fields();
            grid.row([
                Field::from(&profile.gpu),
                (&profile.name).into(),
                (&profile.mechanism).into(),
                memory(profile.memory_bytes).into(),
                share,
                cap,
                floor,
                profile.available.into(),
                profile.capacity.into(),
            ]);
            let about = format!("{} on {}", profile.name, profile.gpu);
            grid.note(&about, profile.unavailable.as_ref());
        }
        grid.render()
    }
}
