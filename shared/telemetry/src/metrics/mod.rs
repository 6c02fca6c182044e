//! Metrics without a global recorder. Values are atomics owned by whatever they describe and are read when somebody
//! scrapes; a series is gone when its owner is gone.

mod exposition;
mod instruments;
mod names;
mod reference;

pub use exposition::{CONTENT_TYPE, Exposition};
pub use instruments::{Counter, Gauge, Histogram};
pub use names::{Definition, Kind, Metric};
pub use reference::reference_markdown;
