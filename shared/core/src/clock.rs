//! Wall-clock time as a parameter. Intervals and timeouts use tokio's clock, which tests can pause; calendar time comes
//! only from here.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where calendar time comes from: the system, or a test.
#[derive(Debug, Clone)]
pub struct WallClock(Option<Arc<AtomicU64>>);

impl WallClock {
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`WallClock::advance`].
    pub fn manual(unix_ms: u64) -> Self {
        Self(Some(Arc::new(AtomicU64::new(unix_ms))))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn unix_ms(&self) -> u64 {
        match &self.0 {
            Some(manual) => manual.load(Ordering::Relaxed),
            None => system_unix_ms(),
        }
    }

    /// Microseconds since 1970-01-01T00:00:00Z, as exact as the clock has them.
    pub fn unix_us(&self) -> u64 {
        match &self.0 {
            Some(manual) => manual.load(Ordering::Relaxed).saturating_mul(1_000),
            None => u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Moves a manual clock; the system's clock is left alone.
    pub fn advance(&self, ms: u64) {
        if let Some(manual) = &self.0 {
            manual.fetch_add(ms, Ordering::Relaxed);
        }
    }
}

fn system_unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// RFC 3339 in UTC with milliseconds, for people and for logs.
pub fn rfc3339(unix_ms: u64) -> String {
    let text = Rfc3339::of_us(unix_ms.saturating_mul(1_000));
    format!("{}Z", text.as_str().get(..Rfc3339::MILLIS_END).unwrap_or_default())
}

/// A moment in RFC 3339, in UTC with microseconds, without memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339([u8; 27]);

impl Rfc3339 {
    const MILLIS_END: usize = 23;
    const MICROS: Range<usize> = 20..26;

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn of_us(unix_us: u64) -> Self {
        let (secs, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
        let (days, time) = (secs / 86_400, secs % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
        let mut moment = Self(*b"0000-00-00T00:00:00.000000Z");
        for (place, number) in [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, hour),
            (14..16, minute),
            (17..19, second),
            (Self::MICROS, us),
        ] {
            moment.set(place, number);
        }
        moment
    }

    /// The same second with other microseconds, which is cheaper than another moment.
    #[must_use]
    pub fn with_micros(mut self, us: u64) -> Self {
        self.set(Self::MICROS, us);
        self
    }

    fn set(&mut self, place: Range<usize>, mut number: u64) {
        for digit in self.0.get_mut(place).into_iter().flatten().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Days since 1970-01-01 to a proleptic Gregorian date, by counting 400-year eras that begin on 1 March.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_known_instants() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339(1_763_510_399_999), "2025-11-18T23:59:59.999Z");
        assert_eq!(Rfc3339::of_us(951_782_400_123_456).as_str(), "2000-02-29T00:00:00.123456Z");
        assert_eq!(Rfc3339::of_us(951_782_400_123_456).with_micros(7), Rfc3339::of_us(951_782_400_000_007));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = WallClock::manual(5);
        assert_eq!(clock.unix_ms(), 5);
        clock.clone().advance(7);
        assert_eq!(clock.unix_ms(), 12);
    }
}
