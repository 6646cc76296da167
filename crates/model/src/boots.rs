//! How long an agent may take to come once its instance was accepted, learned from those that came before it.

use std::time::Duration;

/// Of fewer that came nothing is learned.
pub const ENOUGH: usize = 10;
/// Until then.
pub const UNKNOWN: Duration = Duration::from_secs(120);
/// So often the longest one.
const TIMES: u32 = 3;
/// Never less: a host on which many begin at once is slower than it ever was.
const LEAST: Duration = Duration::from_secs(60);
/// Never more, whatever came before.
const MOST: Duration = Duration::from_secs(1800);

/// What came of an instance, counted from its acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    Came(Duration),
    /// It was given up, after so long.
    GivenUp(Duration),
}

/// How long the next one may take, by the latest ones, newest first.
///
/// Where the newest ones were given up, a pool may have become slower than whoever waits for it: the next one may take twice as long as they
/// had, until one comes, which then is among those that are known. One that hangs now and then thus costs no more than that.
#[must_use]
pub fn attach_within(latest: &[Boot]) -> Duration {
    let came: Vec<Duration> = latest
        .iter()
        .filter_map(|boot| if let Boot::Came(took) = boot { Some(*took) } else { None })
        .collect();
    let usual = match came.iter().max() {
        // Few say how slow it is, not yet how fast.
        Some(longest) if came.len() < ENOUGH => UNKNOWN.max(*longest * TIMES),
        Some(longest) => *longest * TIMES,
        None => UNKNOWN,
    };
    let given_up =
        latest.iter().map_while(|boot| if let Boot::GivenUp(after) = boot { Some(*after) } else { None });
    let longer = given_up.max().map(|after| after * 2);
    usual.max(longer.unwrap_or_default()).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(of: u64) -> Duration {
        Duration::from_secs(of)
    }

    fn within(latest: &[Boot]) -> u64 {
        attach_within(latest).as_secs()
    }

    #[test]
    fn few_say_how_slow_it_is_and_many_how_fast() {
        assert_eq!(within(&[]), 120);
        assert_eq!(within(&[Boot::Came(seconds(2)); ENOUGH - 1]), 120);
        assert_eq!(within(&[Boot::Came(seconds(2)); ENOUGH]), 60);
        assert_eq!(within(&[Boot::Came(seconds(90))]), 270);
        let mut latest = [Boot::Came(seconds(2)); ENOUGH];
        latest[ENOUGH - 1] = Boot::Came(seconds(50));
        assert_eq!(within(&latest), 150, "the slowest of them counts");
    }

    #[test]
    fn who_was_given_up_is_waited_for_longer_until_one_comes() {
        assert_eq!(within(&[Boot::GivenUp(seconds(121))]), 242);
        assert_eq!(within(&[Boot::GivenUp(seconds(242)), Boot::GivenUp(seconds(121))]), 484);
        let fast = [Boot::Came(seconds(2)); ENOUGH];
        // As many as hang at the same time count as one.
        assert_eq!(within(&[&[Boot::GivenUp(seconds(61)); 20], &fast[..]].concat()), 122);
        let mended = [&[Boot::Came(seconds(100)), Boot::GivenUp(seconds(61))], &fast[..]].concat();
        assert_eq!(within(&mended), 300);
        let hung = [&[Boot::Came(seconds(2)), Boot::GivenUp(seconds(61))], &fast[..]].concat();
        assert_eq!(within(&hung), 60, "one that hung is no reason to wait longer for all to come");
        assert_eq!(within(&[Boot::GivenUp(seconds(50_000))]), 1800);
    }
}
