//! The instruments: lock-free, wait-free, one cache line or two, no labels. Labels are added when a scrape reads them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// Upper bounds of the latency buckets, in microseconds; one more bucket takes the rest.
pub(super) const BUCKETS_US: [u64; 16] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    120_000_000,
];

/// A latency distribution with fixed buckets, so that it can be added up across processes.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub fn add(&self, count: i64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds one unless there are `max` already; whether it did. Exact, however many threads do so at once.
    #[must_use]
    pub fn add_one_below(&self, max: i64) -> bool {
        let below = |count| (count < max).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok()
    }

    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    pub fn record(&self, elapsed: Duration) {
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let index = BUCKETS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Cumulative counts per bound, the total, and the sum in seconds.
    pub(super) fn read(&self) -> (Vec<u64>, u64, f64) {
        let mut total = 0;
        let mut cumulative: Vec<u64> = Vec::with_capacity(self.buckets.len());
        for bucket in &self.buckets {
            total += bucket.load(Ordering::Relaxed);
            cumulative.push(total);
        }
        cumulative.pop();
        (cumulative, total, Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_to_it() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(100));
        histogram.record(Duration::from_micros(101));
        histogram.record(Duration::from_secs(999));
        let (cumulative, total, sum) = histogram.read();
        assert_eq!((cumulative[0], cumulative[1], *cumulative.last().unwrap(), total), (1, 2, 2, 3));
        assert!((sum - 999.000_201).abs() < 1e-6);
    }

    #[test]
    fn as_many_get_a_place_as_there_are_however_many_ask_at_once() {
        const PLACES: i64 = 3;
        const THREADS: usize = 8;
        let (taken, barrier) = (Gauge::default(), std::sync::Barrier::new(THREADS));
        for _ in 0..500 {
            let round = || {
                barrier.wait();
                taken.add_one_below(PLACES)
            };
            let got: usize = std::thread::scope(|scope| {
                let asking: Vec<_> = (0..THREADS).map(|_| scope.spawn(round)).collect();
                asking.into_iter().map(|asked| usize::from(asked.join().unwrap())).sum()
            });
            assert_eq!((i64::try_from(got).unwrap(), taken.get()), (PLACES, PLACES));
            taken.add(-PLACES);
        }
    }
}
