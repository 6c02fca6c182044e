//! Load on whole data planes: fast scripted servers, clients that keep their connections and judge every answer, and calls at
//! a pace. The suites that put them together are in `suites`.

pub mod background;
pub mod child;
pub mod client;
pub mod latency;
mod metronome;
pub mod pace;
pub mod server;
pub mod target;
