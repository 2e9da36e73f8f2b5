//! Values that serde alone would take too readily.

use serde::{Deserialize, Deserializer, de::Error};
use std::{path::PathBuf, time::Duration};

/// Bytes of a Unix socket's path, its closing zero left out (`sun_path` of unix(7)).
const LONGEST_SOCKET: usize = 107;

/// Sums of waits must stay numbers, and nobody means more.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

fn absolute_path<E: Error>(text: String) -> Result<PathBuf, E> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(E::custom("write an absolute path, one that begins with /"))
    }
}

pub(super) fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    absolute_path(String::deserialize(deserializer)?)
}

pub(super) fn absolute_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    absolute_path(String::deserialize(deserializer)?).map(Some)
}

pub(super) fn socket<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = absolute(deserializer)?;
    if path.as_os_str().len() > LONGEST_SOCKET {
        return Err(D::Error::custom(format!("write a path of at most {LONGEST_SOCKET} bytes")));
    }
    Ok(path)
}

/// A program: an absolute path, or a name without a slash.
pub(super) fn program<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.contains('/') {
        true => absolute_path(text),
        false if text.is_empty() => {
            Err(D::Error::custom("write the name of a program, or its absolute path"))
        }
        false => Ok(text.into()),
    }
}

pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = humantime::parse_duration(&String::deserialize(deserializer)?).ok();
    time.filter(|time| !time.is_zero() && *time <= LONGEST_WAIT).ok_or_else(|| {
        D::Error::custom("write a number and a unit, such as 30s or 2min, more than 0 and at most 1day")
    })
}

/// A value that may be absent, but not be something else.
pub(super) fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
