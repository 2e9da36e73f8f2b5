//! Names of PCI functions as the kernel writes them.

use crate::Quoted;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Address of a PCI function, `DDDD:BB:DD.F` in lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Vendor and device id, `vvvv:dddd` in lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciId {
    pub vendor: u16,
    pub device: u16,
}

/// A text that names no PCI function or device id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PciNameError {
    #[error("{} is not a PCI address; write domain:bus:device.function, such as 0000:41:00.0", Quoted(.0))]
    Address(String),
    #[error("{} is not a PCI id; write vendor:device in hexadecimal, such as 1002:74a1", Quoted(.0))]
    Id(String),
}

fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits.contains(&text.len()) && plain).then(|| u32::from_str_radix(text, 16).ok())?
}

impl PciAddress {
    /// Whether both are functions of one device, and so of one card.
    #[must_use]
    pub fn is_beside(self, other: Self) -> bool {
        Self { function: 0, ..self } == Self { function: 0, ..other }
    }
}

impl FromStr for PciAddress {
    type Err = PciNameError;

    /// Reads `DDDD:BB:DD.F`; the domain may be left out (`41:00.0`), as lspci does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0000", rest));
            let address = Self {
                domain: hex(domain, 4..=8)?,
                bus: u8::try_from(hex(bus, 2..=2)?).ok()?,
                device: u8::try_from(hex(device, 2..=2)?).ok()?,
                function: u8::try_from(hex(function, 1..=1)?).ok()?,
            };
            (address.device < 32 && address.function < 8).then_some(address)
        };
        parse().ok_or_else(|| PciNameError::Address(text.to_owned()))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl FromStr for PciId {
    type Err = PciNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (vendor, device) = text.split_once(':')?;
            Some(Self {
                vendor: u16::try_from(hex(vendor, 4..=4)?).ok()?,
                device: u16::try_from(hex(device, 4..=4)?).ok()?,
            })
        };
        parse().ok_or_else(|| PciNameError::Id(text.to_owned()))
    }
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

macro_rules! text_form {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = PciNameError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.to_string()
            }
        }
    };
}
text_form!(PciAddress);
text_form!(PciId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_as_the_kernel_and_lspci_write_them() {
        let read = |text: &str| text.parse::<PciAddress>().map(|address| address.to_string());
        assert_eq!(read("0000:41:00.0").unwrap(), "0000:41:00.0");
        assert_eq!(read("41:1F.7").unwrap(), "0000:41:1f.7");
        assert_eq!(read("10000:E1:00.0").unwrap(), "10000:e1:00.0", "domains of VMD have five digits");
        for bad in [
            "",
            "41",
            "0000:41:00",
            "0000:41:20.0",
            "0000:41:00.8",
            "0:41:00.0",
            "0000:041:00.0",
            "0000:4g:00.0",
            "0000:41:00.0 ",
            "+000:41:00.0",
            "0000-41:00.0",
            "123456789:41:00.0",
            "0000:41:00.00",
        ] {
            assert_eq!(
                read(bad).unwrap_err().to_string(),
                format!(
                    "{bad:?} is not a PCI address; write domain:bus:device.function, such as 0000:41:00.0"
                )
            );
        }
    }

    #[test]
    fn ids() {
        assert_eq!("1002:74A1".parse::<PciId>().unwrap().to_string(), "1002:74a1");
        for bad in ["", "1002", "1002:", "1002:74a", "10022:74a1", "0x1002:0x74a1", "1002:74a1:0"] {
            assert_eq!(
                bad.parse::<PciId>().unwrap_err().to_string(),
                format!("{bad:?} is not a PCI id; write vendor:device in hexadecimal, such as 1002:74a1")
            );
        }
    }

    proptest! {
        #[test]
        fn addresses_read_back(domain: u32, bus: u8, device in 0_u8..32, function in 0_u8..8) {
            let address = PciAddress { domain, bus, device, function };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn ids_read_back(vendor: u16, device: u16) {
            let id = PciId { vendor, device };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_breaks_the_readers(text in "([0-9a-f:.]|.){0,16}") {
            let _ = text.parse::<PciAddress>();
            let _ = text.parse::<PciId>();
        }
    }
}
