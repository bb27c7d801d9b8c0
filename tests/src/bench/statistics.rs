//! Samples become the few numbers that stand for them. Pure.

use std::time::Duration;

/// Percentiles of a set of latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Half of the samples are at most this.
    pub p50: Duration,
    /// 99 of 100 samples are at most this.
    pub p99: Duration,
}

impl Latency {
    /// The percentiles of these samples by nearest rank; none where there are no samples.
    pub fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        let at = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100);
            samples.get(rank.checked_sub(1)?).copied()
        };
        Some(Self { p50: at(50)?, p99: at(99)? })
    }
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The middle value, or the mean of the two; none where there are no values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get((values.len() / 2).checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let samples = (1..=200).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(samples).unwrap();
        assert_eq!(latency.p50, Duration::from_millis(100));
        assert_eq!(latency.p99, Duration::from_millis(198));
    }

    #[test]
    fn one_sample_is_every_percentile_and_none_is_no_figure() {
        let one = Duration::from_millis(7);
        assert_eq!(Latency::of(vec![one]), Some(Latency { p50: one, p99: one }));
        assert_eq!(Latency::of(Vec::new()), None);
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn one_disturbed_round_does_not_move_the_median_far() {
        assert_eq!(median(vec![3.0, 1000.0, 1.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, -9.0]), Some(1.5));
    }
}
