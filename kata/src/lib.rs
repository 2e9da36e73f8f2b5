//! Handing a slice over to container runtimes: CDI files.

#![forbid(unsafe_code)]

pub mod cdi;
