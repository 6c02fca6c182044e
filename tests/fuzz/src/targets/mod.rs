//! The targets by name. One file each; its head states the properties.

mod backup;
mod config;
mod envelope;
mod generation;
mod headers;
mod journal;
mod mirrors;
mod parts;
mod sse;
mod strict_json;
mod sync;

/// One entry into production code, with what must hold for any input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its corpus is the folder of this name under `tests/fuzz/corpus`.
    pub name: &'static str,
    /// Panics when a property does not hold.
    pub run: fn(&[u8]),
    /// Longest input worth trying, in bytes; a longer one is cut.
    pub input_bytes_max: usize,
}

pub const TARGETS: &[Target] = &[
    Target { name: "config", run: config::run, input_bytes_max: 4096 },
    Target { name: "parts", run: parts::run, input_bytes_max: 4096 },
    Target { name: "envelope", run: envelope::run, input_bytes_max: 4096 },
    Target { name: "sse", run: sse::run, input_bytes_max: 2048 },
    Target { name: "headers", run: headers::run, input_bytes_max: 2048 },
    Target { name: "mirrors", run: mirrors::run, input_bytes_max: 4096 },
    Target { name: "journal", run: journal::run, input_bytes_max: 4096 },
    Target { name: "sync", run: sync::run, input_bytes_max: 4096 },
    Target { name: "backup", run: backup::run, input_bytes_max: 8192 },
    Target { name: "generation", run: generation::run, input_bytes_max: 4096 },
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

// === impl Target ===

impl Target {
    /// Checks every property for one input.
    pub fn check(&self, input: &[u8]) {
        (self.run)(input.get(..self.input_bytes_max).unwrap_or(input));
    }
}
