//! What a data plane decided, written so that it proves itself: records, the chain that links them, the segments they stand
//! in, and what becomes of them when they are read, checked and exported. Decision 14 says why it is so.
//!
//! Nothing here waits, knows a mount or a connection, or ever encodes a record anew that another process wrote.
//!
//! | module | owns |
//! |---|---|
//! | `record` | the fields, and what reads them |
//! | `draft` | a record before it has its place, as text |
//! | `chain` | ids, links, what follows what |
//! | `segment` | the files of a spool |
//! | `verify` | whether segments or an export are whole, offline |
//! | `export` | lines of JSON with their links, and CSV |
//! | `redact` | arguments without secrets |

pub mod chain;
pub mod draft;
pub mod export;
pub mod record;
pub mod redact;
pub mod segment;
pub mod verify;

pub use chain::{ChainId, Position};
pub use draft::Draft;
pub use record::{Kind, Record};
