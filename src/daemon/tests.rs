//! The whole daemon in one process, on a host that obeys the kernel's rules without being one.

mod bench;
mod faults;
mod history;
mod kill_points;
mod layouts;
mod ledger_fails;
mod life;
mod limits;
mod nvidia;
mod partitions;
mod placement;
mod quarantine;
mod race;
mod removal;
mod requests;
mod reuse;
