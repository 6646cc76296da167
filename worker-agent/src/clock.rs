//! The two clocks: one for order and durations, one for people.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Microseconds of the machine's monotonic clock: what frames and outcomes carry.
pub fn monotonic_us() -> u64 {
    micros(clock_gettime(ClockId::Monotonic)).unsigned_abs()
}

/// Microseconds since 1970.
pub fn wall_us() -> i64 {
    micros(clock_gettime(ClockId::Realtime))
}

fn micros(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
}

/// Seconds of a message as a duration. What is no time at all (negative, not a number) is none; what is beyond a century is a century.
pub fn duration(seconds: f64) -> std::time::Duration {
    const CENTURY: f64 = 100.0 * 365.25 * 86_400.0;
    std::time::Duration::from_secs_f64(if seconds > 0.0 { seconds.min(CENTURY) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration;

    #[test]
    fn odd_numbers_are_bounded() {
        assert_eq!(duration(1.5), Duration::from_millis(1500));
        for none in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(duration(none), Duration::ZERO);
        }
        assert!(duration(f64::INFINITY) < Duration::from_secs(4_000_000_000));
    }
}
