//! stdio upstreams against real child processes.

mod fake;
mod legacy;
mod limits;
mod modern;
mod process;
mod shared;
mod world;
