//! The wire contract between control and data plane: `ostler.sync.v1`, one bidirectional stream.
//!
//! Owns the messages and the gRPC client and server made from `proto/ostler/sync/v1/sync.proto`. The generated code is
//! checked in, so that building Ostler needs no `protoc` and a change of the contract shows in review;
//! `tests/generated.rs` refuses a file that differs from what the contract says.
//!
//! Never holds logic: what a message means is decided by the sync modules of control and data plane, and these
//! types stop there.

pub mod sync {
    //! The config stream.
    #[allow(
        clippy::all,
        clippy::pedantic,
        rust_2018_idioms,
        unused_qualifications,
        reason = "generated code follows its generator's habits"
    )]
    pub mod v1 {
        //! Version 1: fields are only added, tags are never reused, unknown fields are ignored.
        include!("generated/ostler.sync.v1.rs");
    }
}
