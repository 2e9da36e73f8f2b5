//! Names of vGPU types.
//!
//! | on | name | example |
//! |---|---|---|
//! | a card shared by time | MODEL`-`GB SERIES | `A40-2Q`, `RTX6000-Ada-12Q`, `M60-0Q` |
//! | an instance of MIG | MODEL`-`SLICES`-`GB SERIES ATTRIBUTE | `A100-1-5CME`, `DC-2-48Q`, `DC-1-24` |
//!
//! Before it stand words that say nothing more (`GRID`, `NVIDIA`, `NVIDIA RTX Pro 6000 Blackwell`); `0` is
//! 512 MB; a type for games has no series. The drivers' tables hold other names too, such as `NVIDIA
//! GeForce RTX 3050`: those are no names of types here, and no reason to fail for whoever reads a list.
//!
//! Sources: NVIDIA/vgpu-device-manager pkg/types/vgpu_type.go; NVIDIA/go-nvlib pkg/nvmdev; NVIDIA/
//! open-gpu-kernel-modules src/common/shared/inc/g_vgpu_resman_specific.h.

use super::MigSize;
use crate::{Memory, ProfileName};
use std::{fmt, str::FromStr};
use vgpud_config::{
    Quoted,
    catalogue::{MigAttribute, VgpuSeries},
};

/// A vGPU type as its name tells it. Text form: the short name; the words before it are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VgpuType {
    /// Short, such as `A40-2Q`.
    pub name: ProfileName,
    /// None: a type for games.
    pub series: Option<VgpuSeries>,
    pub framebuffer: Memory,
    /// None: it shares the whole card by time.
    pub mig: Option<MigPart>,
}

/// What a name says of the instance of MIG that a vGPU lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigPart {
    /// Compute slices, 1 to 9.
    pub slices: u8,
    pub attribute: Option<MigAttribute>,
}

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the name of an NVIDIA vGPU type; such names end as in A40-8Q or H100-1-10CME", Quoted(.0))]
pub struct VgpuTypeError(String);

impl VgpuType {
    /// The size of the instance that it lives in, as far as its own name tells: the whole instance is
    /// only its framebuffer where it has the instance alone.
    #[must_use]
    pub fn size(&self) -> Option<MigSize> {
        self.mig.map(|mig| MigSize { slices: mig.slices, memory: self.framebuffer })
    }

    /// What its instance of MIG must have. All but types for compute draw, whatever the name says.
    #[must_use]
    pub fn needs(&self) -> Option<MigAttribute> {
        let mig = self.mig?;
        mig.attribute.or((self.series != Some(VgpuSeries::C)).then_some(MigAttribute::Gfx))
    }
}

impl FromStr for VgpuType {
    type Err = VgpuTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let short = text.rsplit(' ').next().unwrap_or(text);
        read(short).ok_or_else(|| VgpuTypeError(text.to_owned()))
    }
}

fn read(short: &str) -> Option<VgpuType> {
    let (rest, size) = short.rsplit_once('-')?;
    let (gigabytes, kind) = size.split_at(size.bytes().take_while(u8::is_ascii_digit).count());
    let framebuffer = match number(gigabytes)? {
        0 => Memory::from_bytes(512 << 20),
        gigabytes => Memory::from_bytes(gigabytes.checked_mul(1 << 30)?),
    };
    let series = VgpuSeries::ALL.into_iter().find(|series| kind.starts_with(series.letter()));
    let attribute = match kind.get(usize::from(series.is_some())..)? {
        "" => None,
        attribute => Some(MigAttribute::ALL.into_iter().find(|known| known.of_vgpu() == attribute)?),
    };
    let mig = match rest.split_once('-') {
        Some((model, slices)) if is_model(model) && matches!(slices.as_bytes(), [b'1'..=b'9']) => {
            Some(MigPart { slices: slices.parse().ok()?, attribute })
        }
        _ => None,
    };
    let mut words = rest.split('-');
    let shared = attribute.is_none()
        && words.next().is_some_and(is_model)
        && words.all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let name = short.parse().ok()?;
    (mig.is_some() || shared).then_some(VgpuType { name, series, framebuffer, mig })
}

fn is_model(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// A whole number as names have it, without zeros before it.
pub(super) fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for VgpuType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

#[cfg(test)]
mod tests;
