//! The binary that libFuzzer drives: the target that `OSTLER_FUZZ_TARGET` names. See `cargo xtask fuzz`.

#![no_main]
#![allow(clippy::expect_used, reason = "a fuzzer without a target must not run")]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use ostler_fuzz::{Target, targets};

fuzz_target!(|input: &[u8]| target().check(input));

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("OSTLER_FUZZ_TARGET").expect("set OSTLER_FUZZ_TARGET to a target's name");
        targets::find(&name).expect("OSTLER_FUZZ_TARGET names no target")
    })
}
