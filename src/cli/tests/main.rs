//! The real vgpuctl, as a process, against an API server with canned answers.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod canned;
mod golden;
mod process;

mod errors;
mod ledger;
mod outputs;
mod runs;
mod streams;
