//! Small changes to an input, drawn from a seed: the search that an ordinary test can afford. libFuzzer, which sees
//! coverage, searches further; this one needs nothing but the toolchain.

use ostler_core::rng::Jitter;

/// Bytes that mean something in what the targets read.
const TELLING: &[u8] = b"{}[]\",:\\/#&*!|>-.?=%$@ \t\r\n\0\x7f\x80\xbf\xc3\xed\xff0129eEtfnu_aAzZ";

/// Changes an input in one to four places, sometimes with a piece of another one.
pub fn mutate(input: &[u8], other: &[u8], jitter: &mut Jitter) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=jitter.below(4) {
        let at = below(jitter, bytes.len() + 1);
        let end = (at + 1 + below(jitter, 16)).min(bytes.len());
        match jitter.below(8) {
            0 => bytes.insert(at, telling(jitter)),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at.min(end)..end)),
            3 => {
                let piece: Vec<_> = bytes.get(at..end).unwrap_or_default().to_vec();
                let to = below(jitter, bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 => {
                let from = below(jitter, other.len() + 1);
                let length = below(jitter, other.len() - from + 1);
                bytes.splice(at..at, other.iter().skip(from).take(length).copied());
            }
            5 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << jitter.below(8);
                }
            }
            6 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(jitter.below(256)).unwrap_or_default();
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = telling(jitter);
                }
            }
        }
    }
    bytes
}

fn telling(jitter: &mut Jitter) -> u8 {
    TELLING.get(below(jitter, TELLING.len())).copied().unwrap_or_default()
}

fn below(jitter: &mut Jitter, bound: usize) -> usize {
    usize::try_from(jitter.below(bound as u64)).unwrap_or_default()
}
