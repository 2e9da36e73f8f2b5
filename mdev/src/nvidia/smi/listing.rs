//! Reading what `nvidia-smi` prints about MIG.
//!
//! ```text
//! +-------------------------------------------------------+
//! | GPU instances:                                        |
//! | GPU   Name             Profile  Instance   Placement  |
//! |                          ID       ID       Start:Size |
//! |=======================================================|
//! |   0  MIG 1g.10gb         19       10          3:1     |
//! +-------------------------------------------------------+
//! ```
//!
//! Tables are as wide as the driver likes, so words are read and not columns. A line that is none of those
//! known is an error that shows it, for a table that is understood in part is one that is misunderstood; so
//! is a table that does not end.
//!
//! Sources: NVIDIA Multi-Instance GPU User Guide; harvester/pcidevices pkg/util/gpuhelper/mig_test.go.

use crate::nvidia::MigProfile;
use vgpud_config::{MigMode, Quoted};

/// A line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    #[error("the line {}, which is no line of {table}", Quoted(line))]
    Line { table: &'static str, line: String },
    #[error("{table} without their end")]
    Unfinished { table: &'static str },
}

/// Whether MIG is on, and will be after the next reset of the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeRow {
    pub current: MigMode,
    pub pending: MigMode,
}

/// A kind of GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileRow {
    pub name: MigProfile,
    pub id: u32,
    /// How many more the driver would make now.
    pub free: u8,
    /// How many an empty GPU holds.
    pub total: u8,
}

/// A GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    pub name: MigProfile,
    pub profile: u32,
    pub id: u32,
    /// Its first memory slice.
    pub start: u8,
    /// Memory slices.
    pub size: u8,
}

/// A compute instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeRow {
    /// Id of the GPU instance that it is in.
    pub instance: u32,
}

/// Of `--query-gpu=mig.mode.current,mig.mode.pending`; none where the GPU has no MIG.
///
/// # Errors
/// Where it is anything but one line of two modes.
pub fn mode(text: &str) -> Result<Option<ModeRow>, ListingError> {
    let unknown = || ListingError::Line { table: "MIG modes", line: text.trim().to_owned() };
    let (current, pending) = text.trim().split_once(',').ok_or_else(unknown)?;
    let word = |word: &str| match word.trim() {
        "Enabled" => Some(Some(MigMode::On)),
        "Disabled" => Some(Some(MigMode::Off)),
        "[N/A]" | "[Not Supported]" => Some(None),
        _ => None,
    };
    match (word(current), word(pending)) {
        (Some(Some(current)), Some(Some(pending))) => Ok(Some(ModeRow { current, pending })),
        (Some(None), Some(None)) => Ok(None),
        _ => Err(unknown()),
    }
}

/// Of `mig -lgip`, in its order.
///
/// # Errors
/// Where a line is not understood.
pub fn profiles(text: &str) -> Result<Vec<ProfileRow>, ListingError> {
    const HEADER: [&[&str]; 3] = [
        &["GPU", "instance", "profiles:"],
        &["GPU", "Name", "ID", "Instances", "Memory", "P2P", "SM", "DEC", "ENC"],
        &["Free/Total", "GiB", "CE", "JPEG", "OFA"],
    ];
    // Each has a second line, of engines alone.
    let mut rows: Vec<ProfileRow> = Vec::new();
    let mut seconds = 0;
    table("GPU instance profiles", text, &HEADER, |words| match words {
        [gpu, "MIG", name, id, count, memory, "No" | "Yes", engines @ ..] => {
            let (free, total) = count.split_once('/')?;
            let row = ProfileRow {
                name: name.parse().ok()?,
                id: number(id)?,
                free: number(free)?,
                total: number(total)?,
            };
            let whole = number::<u32>(gpu).is_some() && memory.parse::<f64>().is_ok();
            (whole && rows.len() == seconds && engines.len() == 3 && all_numbers(engines))
                .then(|| rows.push(row))
        }
        engines if engines.len() == 3 && all_numbers(engines) && seconds + 1 == rows.len() => {
            seconds += 1;
            Some(())
        }
        _ => None,
    })?;
    if seconds < rows.len() {
        return Err(ListingError::Unfinished { table: "GPU instance profiles" });
    }
    Ok(rows)
}

/// Of `mig -lgi`, in its order.
///
/// # Errors
/// Where a line is not understood.
pub fn instances(text: &str) -> Result<Vec<InstanceRow>, ListingError> {
    const HEADER: [&[&str]; 3] = [
        &["GPU", "instances:"],
        &["GPU", "Name", "Profile", "Instance", "Placement"],
        &["ID", "ID", "Start:Size"],
    ];
    let mut rows = Vec::new();
    table("GPU instances", text, &HEADER, |words| {
        let [gpu, "MIG", name, profile, id, placement] = words else { return None };
        number::<u32>(gpu)?;
        let (start, size) = placement.split_once(':')?;
        rows.push(InstanceRow {
            name: name.parse().ok()?,
            profile: number(profile)?,
            id: number(id)?,
            start: number(start)?,
            size: number(size)?,
        });
        Some(())
    })?;
    Ok(rows)
}

/// Of `mig -lci`, in its order.
///
/// # Errors
/// Where a line is not understood.
pub fn compute_instances(text: &str) -> Result<Vec<ComputeRow>, ListingError> {
    const HEADER: [&[&str]; 4] = [
        &["Compute", "instances:"],
        &["GPU", "GPU", "Name", "Profile", "Instance", "Placement"],
        &["Instance", "ID", "ID", "Start:Size"],
        &["ID"],
    ];
    let mut rows = Vec::new();
    table("compute instances", text, &HEADER, |words| {
        let [gpu, instance, "MIG", _name, profile, id, placement] = words else { return None };
        let (start, size) = placement.split_once(':')?;
        let others = [*gpu, *profile, *id, start, size];
        all_numbers(&others).then_some(())?;
        rows.push(ComputeRow { instance: number(instance)? });
        Some(())
    })?;
    Ok(rows)
}

/// Hands the words of each row to `row`, which tells whether it is one.
fn table(
    table: &'static str,
    text: &str,
    header: &[&[&str]],
    mut row: impl FnMut(&[&str]) -> Option<()>,
) -> Result<(), ListingError> {
    let is_border =
        |line: &str| line.starts_with('+') && line.bytes().all(|byte| matches!(byte, b'+' | b'-'));
    let is_rule = |line: &str| line.len() > 2 && line.trim_matches('|').bytes().all(|byte| byte == b'=');
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut last_is_border = false;
    for line in lines {
        last_is_border = is_border(line);
        if last_is_border || is_rule(line) {
            continue;
        }
        let words = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
        let words: Vec<&str> = words.map(|words| words.split_whitespace().collect()).unwrap_or_default();
        if !header.contains(&words.as_slice()) && row(&words).is_none() {
            return Err(ListingError::Line { table, line: line.to_owned() });
        }
    }
    if last_is_border { Ok(()) } else { Err(ListingError::Unfinished { table }) }
}

/// Of `mig -cgi`: the id of the GPU instance that it made; none where it names none, or several.
///
/// ```text
/// Successfully created GPU instance ID  9 on GPU  0 using profile MIG 1g.10gb (ID 19)
/// ```
pub fn created(text: &str) -> Option<u32> {
    let ids =
        text.lines().filter_map(|line| line.trim().strip_prefix("Successfully created GPU instance ID "));
    let mut ids = ids.filter_map(|rest| number(rest.split_whitespace().next()?));
    let id = ids.next()?;
    ids.next().is_none().then_some(id)
}

fn number<T: TryFrom<u32>>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = text.parse().ok().filter(|_| plain)?;
    T::try_from(number).ok()
}

fn all_numbers(words: &[&str]) -> bool {
    words.iter().all(|word| number::<u32>(word).is_some())
}

#[cfg(test)]
mod tests;
