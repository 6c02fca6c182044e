//! Raw → Validated: the meaning of every value, checked all at once.
pub(crate) mod url;
