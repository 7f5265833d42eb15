//! What is counted in: atomics that are all there from the start, so that counting neither locks nor allocates.
//!
//! The library's own histogram has a lock, and its families look each label set up in a map under one.

use std::fmt::Error;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::labels::Labels;

/// A counter for each member of a closed set.
#[derive(Debug)]
pub(super) struct Counters<L> {
    values: Arc<[AtomicU64]>,
    of: PhantomData<L>,
}

impl<L> Clone for Counters<L> {
    fn clone(&self) -> Self {
        Self { values: Arc::clone(&self.values), of: PhantomData }
    }
}

impl<L: Labels> Default for Counters<L> {
    fn default() -> Self {
        Self { values: L::all().iter().map(|_| AtomicU64::new(0)).collect(), of: PhantomData }
    }
}

impl<L: Labels> Counters<L> {
    /// Counts. Cost: one atomic addition.
    pub(super) fn add(&self, label: L, count: u64) {
        if let Some(value) = self.values.get(label.place()) {
            value.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl<L: Labels> Counters<L> {
    /// Takes over what somebody else counts.
    pub(super) fn set(&self, label: L, count: u64) {
        if let Some(value) = self.values.get(label.place()) {
            value.store(count, Ordering::Relaxed);
        }
    }
}

impl<L: Labels> EncodeMetric for Counters<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        for label in L::all() {
            let value = self.values.get(label.place()).map_or(0, |value| value.load(Ordering::Relaxed));
            let pairs = label.pairs();
            encoder.encode_family(&pairs)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// A number that goes up and down for each member of a closed set.
#[derive(Debug)]
pub(super) struct Gauges<L> {
    values: Arc<[AtomicI64]>,
    of: PhantomData<L>,
}

impl<L> Clone for Gauges<L> {
    fn clone(&self) -> Self {
        Self { values: Arc::clone(&self.values), of: PhantomData }
    }
}

impl<L: Labels> Default for Gauges<L> {
    fn default() -> Self {
        Self { values: L::all().iter().map(|_| AtomicI64::new(0)).collect(), of: PhantomData }
    }
}

impl<L: Labels> Gauges<L> {
    pub(super) fn add(&self, label: L, change: i64) {
        if let Some(value) = self.values.get(label.place()) {
            value.fetch_add(change, Ordering::Relaxed);
        }
    }
}

impl<L: Labels> EncodeMetric for Gauges<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        for label in L::all() {
            let value = self.values.get(label.place()).map_or(0, |value| value.load(Ordering::Relaxed));
            let pairs = label.pairs();
            encoder.encode_family(&pairs)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Where the buckets of times end, in nanoseconds: from half a millisecond to half a minute.
const TIMES: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Where the buckets of numbers of changes end: up to the most that fit a commit.
const COUNTS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 16_384];

/// How often a value fell between which bounds.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    /// How many of the counted units are one of the shown ones.
    scale: f64,
    /// One for each bound, and one for all beyond.
    buckets: Arc<[AtomicU64]>,
    sum: Arc<AtomicU64>,
}

impl Histogram {
    /// One of times, counted in nanoseconds and shown in seconds.
    pub(super) fn of_times() -> Self {
        Self::new(TIMES, 1e9)
    }

    /// One of numbers of changes.
    pub(super) fn of_counts() -> Self {
        Self::new(COUNTS, 1.0)
    }

    fn new(bounds: &'static [u64], scale: f64) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, scale, buckets, sum: Arc::default() }
    }

    /// Takes a value in. Cost: a search in 15 numbers, two atomic additions.
    pub(super) fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum is shown with 52 bits, which is more than anybody reads")]
    fn shown(&self, value: u64) -> f64 {
        value as f64 / self.scale
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        let bounds = self.bounds.iter().map(|bound| self.shown(*bound)).chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.shown(self.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// A histogram for each member of a closed set.
#[derive(Debug)]
pub(super) struct Histograms<L> {
    each: Arc<[Histogram]>,
    of: PhantomData<L>,
}

impl<L> Clone for Histograms<L> {
    fn clone(&self) -> Self {
        Self { each: Arc::clone(&self.each), of: PhantomData }
    }
}

impl<L: Labels> Histograms<L> {
    pub(super) fn of_times() -> Self {
        Self { each: L::all().iter().map(|_| Histogram::of_times()).collect(), of: PhantomData }
    }

    pub(super) fn observe_time(&self, label: L, time: Duration) {
        if let Some(histogram) = self.each.get(label.place()) {
            histogram.observe_time(time);
        }
    }
}

impl<L: Labels> EncodeMetric for Histograms<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        for (label, histogram) in L::all().into_iter().zip(self.each.iter()) {
            let pairs = label.pairs();
            histogram.encode(encoder.encode_family(&pairs)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
