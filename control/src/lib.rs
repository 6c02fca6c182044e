//! The control process: it keeps versions of config, delivers them to data planes, and shows where each one stands.
//!
//! `store` keeps versions and the audit log; `revisions` is the one path by which content becomes a version;
//! `distribution` brings the newest version of a fleet to its nodes; `fleet` knows what they answered; `api` is what
//! operators speak; `file_source` follows a watched file; `server` serves every listener behind one `guard`.
//!
//! Control is never on the path of a request: a data plane serves what it has for ever, without any of this. Control
//! never resolves a reference and never sees a secret behind one.

pub mod api;
mod args;
mod control;
mod distribution;
mod file_source;
mod fleet;
mod guard;
mod metrics;
mod offline;
mod revisions;
mod run;
mod server;
mod state;
mod store;

pub use args::{ControlArgs, RestoreArgs, StoreCommand};
pub use control::{Control, ControlOptions, RunningControl, StartError};
pub use distribution::{Revision, wire};
pub use file_source::FileError;
pub use offline::run_on_store;
pub use run::run;
pub use state::STORE_FILE;
pub use store::backup::{BackupError, Summary as BackupSummary, verify as verify_backup};
pub use store::{CheckReport, OpenError, check_file as check_store, is_store, verify_trail};
