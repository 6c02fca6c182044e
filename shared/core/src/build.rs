//! Which build this is, as shown in `--version`, in `hello` and in metrics.

/// Semantic version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
