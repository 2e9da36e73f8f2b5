//! What NVIDIA's driver shows of vGPUs.

use crate::{message, words};
use vgpud_mdev::fuzzing::{self, MigListing};
use vgpud_mdev::nvidia::{Geometry, GeometryProfile, MigClass, MigProfile, VgpuType, creatable_types};

/// Names of one card, a line each: what each says, and what they say beside one another.
pub fn nvidia_names(data: &[u8]) {
    let text = &crate::text(data);
    let mut sizes = Vec::new();
    for name in text.lines() {
        words::check::<VgpuType>(name);
        words::check::<MigProfile>(name);
        if let Ok(vgpu) = name.parse::<VgpuType>() {
            assert!(vgpu.framebuffer.bytes() >= 512 << 20, "{vgpu:?}");
            assert!(name.ends_with(vgpu.name.as_ref()), "{vgpu:?}");
            sizes.extend(vgpu.size());
        }
        sizes.extend(name.parse::<MigProfile>().ok().map(|profile| profile.size));
    }
    // A few: each is looked for among all.
    sizes.truncate(16);
    let geometry = every_class();
    for size in &sizes {
        let class = size.class(&geometry, sizes.iter().copied());
        assert!(class.is_none_or(|class| class.slices() == size.slices), "{size:?} is {class:?}");
    }
}

/// Of a card with an instance of each size; what else is in it does not matter here.
fn every_class() -> Geometry {
    let profile =
        |class| GeometryProfile { class, attribute: None, id: 0, max: 1, memory_slices: 1, starts: vec![0] };
    let profiles = MigClass::ALL.map(profile).to_vec();
    Geometry { slices: 7, memory_slices: 8, source: String::new(), profiles }
}

/// `creatable_vgpu_types` of a virtual function.
pub fn creatable_vgpus(data: &[u8]) {
    let text = &crate::text(data);
    match creatable_types(text) {
        Ok(types) => {
            // Written in the other order of the columns, they are the same.
            let other: String = types.iter().map(|row| format!("{}  {}\n", row.name, row.id)).collect();
            let begins_with_number = |name: &str| {
                name.split([' ', ':', '\t']).next().is_some_and(|word| word.parse::<u64>().is_ok())
            };
            if !types.iter().any(|row| begins_with_number(&row.name)) {
                assert_eq!(creatable_types(&other).as_ref(), Ok(&types), "{other:?}");
            }
            assert!(types.iter().all(|row| row.id.number() > 0 && !row.name.is_empty()));
        }
        Err(error) => message::check_error(&error, text),
    }
}

/// What `nvidia-smi` prints of MIG.
pub fn mig_listing(data: &[u8]) {
    let text = &crate::text(data);
    if let Some(id) = fuzzing::created_instance(text) {
        assert!(text.contains(&id.to_string()), "{id} of {text:?}");
    }
    for listing in MigListing::ALL {
        match fuzzing::mig_listing(listing, text) {
            // Each takes a line of its own.
            Ok(rows) => assert!(rows <= text.lines().count(), "{rows} of {text:?}"),
            Err(error) => message::check_error(&error, text),
        }
    }
}
