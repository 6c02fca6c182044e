//! Placeholder head, replaced as the crate takes shape.
