//! Small writes of several parts, made one before they are handed to the system: copying a few hundred bytes costs less than what
//! a kernel does for a list of parts.

use std::io::IoSlice;

/// The most that is worth a copy.
pub(crate) const GATHER_BYTES_MAX: usize = 2048;

/// All parts, one after the other, if they fit.
#[inline]
pub(crate) fn gather<'a>(parts: &[IoSlice<'_>], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut length = 0;
    for part in parts {
        room.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    room.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(parts: &[&[u8]]) -> Option<Vec<u8>> {
        let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        gather(&parts, &mut [0; 8]).map(<[u8]>::to_vec)
    }

    #[test]
    fn parts_are_one_if_they_fit() {
        assert_eq!(gathered(&[]), Some(vec![]));
        assert_eq!(gathered(&[b"head", b"", b"body"]), Some(b"headbody".to_vec()));
        assert_eq!(gathered(&[b"head", b"body", b"."]), None);
        assert_eq!(gathered(&[b"more than fits", b""]), None);
    }
}
