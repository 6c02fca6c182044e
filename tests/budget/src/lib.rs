//! What a call costs in instructions and in allocations, which are the same on a busy machine as on a quiet one: a budget that is kept in a file and
//! compared with in CI.

pub mod allocations;
pub mod bare;
pub mod callgrind;
pub mod case;
pub mod check;
pub mod drive;
pub mod figures;
pub mod messages;
pub mod path;
pub mod stage;
pub mod time;
pub mod upstream;
pub mod wire;
pub mod world;
