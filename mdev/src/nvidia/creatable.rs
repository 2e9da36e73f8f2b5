//! The types that can be created on a virtual function now: `nvidia/creatable_vgpu_types` of it.
//!
//! Drivers write the columns in either order, below a header or without:
//!
//! ```text
//! ID    : vGPU Name              vGPU Name      ID
//! 1145  : NVIDIA L40S-1B         NVIDIA A40-2Q  558
//! ```
//!
//! Only the header is there while the function has a vGPU, and while the card is full. The list changes
//! with every vGPU on the card: it is read anew before each creation.
//!
//! Sources: harvester/pcidevices pkg/util/gpuhelper/testdata; documentation of NVIDIA's DRA driver.

use super::VgpuType;
use std::{fmt, num::NonZero};
use vgpud_config::Quoted;

/// The number of a vGPU type, as `current_vgpu_type` takes it. It is no identity: it differs between
/// cards, and between drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VgpuTypeId(NonZero<u32>);

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatableType {
    pub id: VgpuTypeId,
    /// As the driver writes it.
    pub name: String,
    /// None: the name is not one of a vGPU type that is understood, and the type is of no use here.
    pub vgpu: Option<VgpuType>,
}

/// A line that is no header and holds no number and name: the driver writes the list in another way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "The driver's list of vGPU types has the line {}, which is no number with a name; see which driver it is",
    Quoted(line)
)]
pub struct CreatableError {
    line: String,
}

impl VgpuTypeId {
    /// None for 0, which means that there is no vGPU.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZero::new(number).map(Self)
    }

    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get()
    }

    fn read(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| plain).and_then(Self::new)
    }
}

impl fmt::Display for VgpuTypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The types in such a list, in its order.
///
/// # Errors
/// Where a line is not understood.
pub fn creatable_types(text: &str) -> Result<Vec<CreatableType>, CreatableError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_header(line));
    lines.map(|line| row(line).ok_or_else(|| CreatableError { line: line.to_owned() })).collect()
}

fn is_header(line: &str) -> bool {
    let words: Vec<_> = line.split([' ', '\t', ':']).filter(|word| !word.is_empty()).collect();
    let is = |header: [&str; 3]| {
        words.len() == 3 && words.iter().zip(header).all(|(a, b)| a.eq_ignore_ascii_case(b))
    };
    is(["id", "vgpu", "name"]) || is(["vgpu", "name", "id"])
}

/// No name begins with a number alone; some end with one (`NVIDIA GeForce RTX 3050`).
fn row(line: &str) -> Option<CreatableType> {
    let between = |c: char| c.is_whitespace() || c == ':';
    let (first, after) = line.split_once(between)?;
    let (before, last) = line.rsplit_once(between)?;
    let (id, name) = match first.bytes().all(|byte| byte.is_ascii_digit()) {
        true => (first, after),
        false => (last, before),
    };
    let (id, name) = (VgpuTypeId::read(id)?, name.trim_matches(between));
    (!name.is_empty()).then(|| CreatableType { id, name: name.to_owned(), vgpu: name.parse().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<String> {
        let types = creatable_types(text).unwrap();
        let short = |row: &CreatableType| row.vgpu.as_ref().map_or("-".to_owned(), ToString::to_string);
        types.iter().map(|row| format!("{} {} = {}", row.id, row.name, short(row))).collect()
    }

    #[test]
    fn both_orders_of_the_columns() {
        let number_first = "ID    : vGPU Name\n1145  : NVIDIA L40S-1B\n2164  : NVIDIA L40S-3B\n";
        assert_eq!(shown(number_first), ["1145 NVIDIA L40S-1B = L40S-1B", "2164 NVIDIA L40S-3B = L40S-3B"]);
        let name_first = "vGPU Name    ID\nNVIDIA A40-2Q  558\nNVIDIA A40-4Q\t560";
        assert_eq!(shown(name_first), ["558 NVIDIA A40-2Q = A40-2Q", "560 NVIDIA A40-4Q = A40-4Q"]);
        let odd = "1604  : NVIDIA GeForce RTX 3050\nNVIDIA GeForce RTX 3060  1605\n1606:NVIDIA RTX Pro 6000 Blackwell DC-1-2";
        assert_eq!(
            shown(odd),
            [
                "1604 NVIDIA GeForce RTX 3050 = -",
                "1605 NVIDIA GeForce RTX 3060 = -",
                "1606 NVIDIA RTX Pro 6000 Blackwell DC-1-2 = DC-1-2"
            ]
        );
    }

    #[test]
    fn a_list_without_types() {
        for empty in ["", "\n", "ID    : vGPU Name\n", "ID : vGPU NAME", "vGPU Name  ID\n\n"] {
            assert_eq!(creatable_types(empty), Ok(vec![]), "{empty:?}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for bad in [
            "NVIDIA A40-2Q",
            "558",
            "558 :",
            ": 558",
            "0 : NVIDIA A40-2Q",
            "4294967296 : NVIDIA A40-2Q",
            "+558 : NVIDIA A40-2Q",
            "none",
        ] {
            assert_eq!(
                creatable_types(&format!("ID : vGPU Name\n559 : NVIDIA A40-3Q\n {bad}\n"))
                    .unwrap_err()
                    .to_string(),
                format!(
                    "The driver's list of vGPU types has the line {bad:?}, which is no number with a name; see which \
                     driver it is"
                )
            );
        }
    }

    proptest! {
        #[test]
        fn either_order_says_the_same(rows in prop::collection::vec((1_u32.., "NVIDIA [A-Z0-9]{1,6}-[1-9][0-9]{0,2}[QBAC]?"), 0..9)) {
            let number_first: String = rows.iter().map(|(id, name)| format!("{id}  : {name}\n")).collect();
            let name_first: String = rows.iter().map(|(id, name)| format!("{name}  {id}\n")).collect();
            let types = creatable_types(&number_first).unwrap();
            prop_assert_eq!(creatable_types(&name_first).unwrap(), types.clone());
            let read: Vec<_> = types.into_iter().map(|row| (row.id.number(), row.name)).collect();
            prop_assert_eq!(read, rows);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "([0-9]{1,11}|:| |\n|NVIDIA|A40-2Q|ID|vGPU Name|.){0,20}") {
            let _ = creatable_types(&text);
        }
    }
}
