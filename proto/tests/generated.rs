//! Holds the checked-in code to the contract: it is regenerated and compared. `OSTLER_BLESS=1` rewrites it.

#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};

#[test]
fn the_checked_in_code_is_what_the_contract_generates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = generate(root);
    let checked_in = root.join("src/generated/ostler.sync.v1.rs");
    if std::env::var_os("OSTLER_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&checked_in, &fresh).expect("write the generated code");
        return;
    }
    let held = std::fs::read_to_string(&checked_in).expect("read the checked-in code");
    assert!(
        // A checkout with CRLF line ends is the same code.
        held.replace("\r\n", "\n") == fresh,
        "src/generated differs from sync.proto: run `OSTLER_BLESS=1 cargo test -p ostler-proto` and review the diff"
    );
}

fn generate(root: &Path) -> String {
    let files =
        protox::compile(["ostler/sync/v1/sync.proto"], [root.join("proto")]).expect("sync.proto compiles");
    let folder = scratch_folder();
    std::fs::create_dir_all(&folder).expect("create the scratch folder");
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // Part bytes are shared by every stream of a fleet: a reference count instead of a copy.
        .bytes(".ostler.sync.v1.Part")
        // A stable order, so that equal messages encode to equal bytes.
        .btree_map(".")
        .out_dir(&folder)
        .compile_fds(files)
        .expect("generate from sync.proto");
    let text = std::fs::read_to_string(folder.join("ostler.sync.v1.rs")).expect("read the generated code");
    std::fs::remove_dir_all(&folder).expect("remove the scratch folder");
    text
}

fn scratch_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("proto-{}", std::process::id()))
}
