//! Lower-case hexadecimal digits in memory of their own: ids and digests are shown with every call, and a formatter of single bytes
//! costs a hundred times as much.

/// The digits of some bytes, two for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex<const DIGITS: usize>([u8; DIGITS]);

impl<const DIGITS: usize> Hex<DIGITS> {
    /// Of as many bytes as there are pairs of digits; what is missing is 0.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let mut digits = [b'0'; DIGITS];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        Self(digits)
    }

    /// For what is written as bytes: nobody has to look whether they are text.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; DIGITS] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Without a branch, so that many are made at once.
#[inline]
const fn digit(value: u8) -> u8 {
    value + b'0' + (value > 9) as u8 * (b'a' - b'9' - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_the_digits_that_a_formatter_gives_it() {
        for byte in 0..=u8::MAX {
            assert_eq!(Hex::<2>::of(&[byte]).as_bytes(), format!("{byte:02x}").as_bytes());
            assert_eq!(Hex::<2>::of(&[byte]).as_str(), format!("{byte:02x}"));
        }
        assert_eq!(Hex::<6>::of(&[1, 0xab]).as_str(), "01ab00");
    }
}
