//! Heavy suites that run in two sizes: a fraction from a recorded seed with the tests, and the whole with
//! `cargo xtask full`.

pub mod bundle;
pub mod change;
pub mod control_dead;
pub mod crash_audit;
pub mod crash_control;
pub mod crash_dataplane;
#[cfg(target_os = "linux")]
pub mod held;
pub mod isolation;
#[cfg(target_os = "linux")]
pub mod many;
#[cfg(target_os = "linux")]
pub mod policy_cost;
#[cfg(unix)]
pub mod sessions;
pub mod soak;
pub mod swaps;
#[cfg(unix)]
pub mod ungoverned;
