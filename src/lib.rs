//! vgpud, the daemon, and vgpuctl, its command line. `docs/ARCHITECTURE.md` walks one request
//! through the rooms.

#![forbid(unsafe_code)]

/// The wire API, generated from `proto/vgpud/v1/vgpud.proto`.
#[allow(clippy::all, clippy::pedantic, missing_debug_implementations)]
pub mod api {
    tonic::include_proto!("vgpud.v1");
    include!(concat!(env!("OUT_DIR"), "/rpc.rs"));
}

pub mod cli;
pub mod daemon;
pub mod engine;
pub mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod ledger;
mod nearest;
