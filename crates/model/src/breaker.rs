//! Breakers: where something is not to be had for a while, few find out whether it is so still, and whoever else wants it waits. Used for images and offerings by
//! the fleet, and for offerings by `rouse simulate`; each with the clock that it has.

use crate::scaling::offers::Standing;
use std::ops::{Add, Sub};
use std::time::Duration;

/// The pause is doubled with each failure up to this.
const LONGEST: Duration = Duration::from_secs(300);
/// Nobody is believed who asks for a longer one.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);
/// Who was to find out and has not been heard of since has ended otherwise.
pub const PROBE: Duration = Duration::from_secs(600);
/// Once so many may find out at the same time, nobody has to any more.
const ENOUGH: usize = 16;
/// After its pause it is as if it had never been refused, where nobody wanted it for so long.
pub const FORGOTTEN: Duration = Duration::from_secs(600);

/// A moment of any clock: the later less the earlier is the time between them, and the earlier less the later is nothing.
pub trait Moment: Copy + Ord + Add<Duration, Output = Self> + Sub<Output = Duration> {}

impl<T: Copy + Ord + Add<Duration, Output = T> + Sub<Output = Duration>> Moment for T {}

/// Whether something may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    Ask,
    /// Somebody asks already, for all.
    Wait,
    /// Not for so long.
    Not(Duration),
}

/// Something that could not be had lately.
#[derive(Debug, Clone)]
pub struct Breaker<T> {
    failures: u32,
    until: T,
    /// Since when each of those finds out who do.
    probes: Vec<T>,
    /// How many may.
    width: usize,
}

impl<T: Moment> Breaker<T> {
    #[must_use]
    pub fn new(now: T) -> Self {
        Self::known(0, now)
    }

    /// One that failed so often before, and is let alone until then.
    #[must_use]
    pub fn known(failures: u32, until: T) -> Self {
        Self { failures, until, probes: Vec::new(), width: 1 }
    }

    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Nobody asks for it before that.
    #[must_use]
    pub fn until(&self) -> T {
        self.until
    }

    fn probed(&self, now: T) -> usize {
        self.probes.iter().filter(|since| now - **since < PROBE).count()
    }

    #[must_use]
    pub fn may(&self, now: T) -> May {
        if now < self.until {
            return May::Not(self.until - now);
        }
        if self.probed(now) >= self.width { May::Wait } else { May::Ask }
    }

    /// Somebody asks.
    pub fn asks(&mut self, now: T) {
        self.probes.retain(|since| now - *since < PROBE);
        self.probes.push(now);
    }

    /// One of those who asked has ended; whether there was one.
    pub fn asks_no_more(&mut self) -> bool {
        let any = !self.probes.is_empty();
        if any {
            self.probes.remove(0);
        }
        any
    }

    /// It could not be had: not for a pause that grows each time, and at least as long as was asked for. Those that were asked at the same time count once;
    /// whether this one did.
    pub fn trip(&mut self, asked: Option<Duration>, now: T) -> bool {
        if now < self.until {
            return false;
        }
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        let pause = Duration::from_secs(2 << self.failures.min(8)).min(LONGEST);
        self.failures += 1;
        self.until = now + pause.max(asked);
        self.probes.clear();
        self.width = 1;
        true
    }

    /// Whether it is not to be had, or finding that out is left to few.
    #[must_use]
    pub fn is_open(&self, now: T) -> bool {
        now < self.until || self.probed(now) > 0
    }
}

/// What was refused, and since when without a break: not only until the pause is over.
#[derive(Debug, Clone)]
pub struct Refused<T> {
    breaker: Breaker<T>,
    since: Option<T>,
}

impl<T: Moment> Refused<T> {
    #[must_use]
    pub fn new(now: T) -> Self {
        Self::known(Breaker::new(now), None)
    }

    #[must_use]
    pub fn known(breaker: Breaker<T>, since: Option<T>) -> Self {
        Self { breaker, since }
    }

    #[must_use]
    pub fn breaker(&self) -> &Breaker<T> {
        &self.breaker
    }

    /// `None` where it could be had since.
    #[must_use]
    pub fn since(&self) -> Option<T> {
        self.since
    }

    #[must_use]
    pub fn refused_for(&self, now: T) -> Option<Duration> {
        self.since.map(|since| now - since)
    }

    #[must_use]
    pub fn is_forgotten(&self, now: T) -> bool {
        now - self.breaker.until > FORGOTTEN
    }

    #[must_use]
    pub fn may(&self, now: T) -> May {
        self.breaker.may(now)
    }

    pub fn asks(&mut self, now: T) {
        self.breaker.asks(now);
    }

    pub fn asks_no_more(&mut self) {
        self.breaker.asks_no_more();
    }

    /// A launch was taken; whether that is the end of the refusals.
    pub fn taken(&mut self, now: T) -> bool {
        // One that was under way when another was refused says nothing.
        if now < self.breaker.until || !self.breaker.asks_no_more() {
            return false;
        }
        self.breaker.width *= 2;
        self.since.take().is_some()
    }

    /// So many may find out that there is nothing to find out any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.breaker.width >= ENOUGH
    }

    /// A launch was refused; whether that is news: who is refused while it is let alone says nothing new.
    pub fn refused(&mut self, asked: Option<Duration>, now: T) -> bool {
        let is_first = self.since.is_none();
        self.since.get_or_insert(now);
        self.breaker.trip(asked, now) || is_first
    }

    /// There may be one again; whether somebody waited for that.
    pub fn freed(&mut self, now: T) -> bool {
        let waited = now < self.breaker.until;
        self.breaker.until = self.breaker.until.min(now);
        waited
    }
}

impl Standing {
    /// Of what may be had on several accounts, each with how long it has been refused there: it may be launched where any of them may be asked, and is
    /// refused since the last of them has refused it.
    pub fn on(accounts: impl IntoIterator<Item = (May, Option<Duration>)>) -> Self {
        let (mut open, mut asked) = (true, false);
        let (mut again_in, mut refused_for) = (None, Some(Duration::MAX));
        for (number, (may, here)) in accounts.into_iter().enumerate() {
            open = (open && number > 0) || may == May::Ask;
            asked |= may == May::Wait;
            refused_for = refused_for.min(here);
            if let May::Not(wait) = may {
                again_in = Some(again_in.map_or(wait, |least: Duration| least.min(wait)));
            }
        }
        match again_in {
            _ if open => Self::Open,
            Some(again_in) if !asked => {
                Self::Refused { refused_for: refused_for.unwrap_or_default(), again_in }
            }
            _ => Self::Asked { refused_for },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// In any time at all: here in seconds since anything.
    fn at(seconds: i64) -> crate::Timestamp {
        crate::Timestamp::from_secs(seconds)
    }

    #[test]
    fn what_several_accounts_may_have_is_refused_once_all_of_them_have() {
        let wait = |minutes| May::Not(minutes * MINUTE);
        let long = |minutes| Some(minutes * MINUTE);
        assert_eq!(Standing::on([]), Standing::Open);
        assert_eq!(Standing::on([(wait(2), long(9)), (May::Ask, None)]), Standing::Open);
        assert_eq!(Standing::on([(May::Ask, None), (wait(2), long(9))]), Standing::Open);
        let both = Standing::on([(wait(2), long(9)), (wait(1), long(5))]);
        assert_eq!(both, Standing::Refused { refused_for: 5 * MINUTE, again_in: MINUTE });
        let asked = |refused_for| Standing::Asked { refused_for };
        assert_eq!(Standing::on([(wait(2), long(9)), (May::Wait, long(5))]), asked(long(5)));
        assert_eq!(Standing::on([(May::Wait, None), (wait(2), long(9))]), asked(None));
    }

    #[test]
    fn a_refusal_lasts_from_the_first_to_a_launch_that_is_taken() {
        let mut refused = Refused::new(at(0));
        assert!(refused.refused(None, at(0)) && !refused.refused(None, at(1)));
        assert_eq!(refused.may(at(1)), May::Not(Duration::from_secs(1)));
        refused.asks(at(2));
        assert_eq!(refused.may(at(2)), May::Wait);
        assert!(refused.refused(None, at(3)) && refused.may(at(3)) == May::Not(Duration::from_secs(4)));
        assert_eq!(refused.refused_for(at(7)), Some(Duration::from_secs(7)));
        refused.asks(at(7));
        assert!(refused.taken(at(8)) && !refused.taken(at(8)), "nobody else asked");
        assert_eq!((refused.refused_for(at(9)), refused.is_over()), (None, false));
        for _ in 0..3 {
            refused.asks(at(9));
            refused.taken(at(9));
        }
        assert!(refused.is_over());
    }

    #[test]
    fn it_is_open_through_its_pause_and_while_somebody_finds_out() {
        let mut breaker = Breaker::new(at(0));
        assert_eq!((breaker.is_open(at(0)), breaker.may(at(0))), (false, May::Ask), "nothing was refused");
        assert!(breaker.trip(None, at(0)));
        assert_eq!((breaker.failures(), breaker.until()), (1, at(2)));
        assert_eq!([1, 2].map(|second| breaker.is_open(at(second))), [true, false]);
        breaker.asks(at(2));
        assert_eq!((breaker.is_open(at(3)), breaker.may(at(3))), (true, May::Wait));
        assert!(breaker.asks_no_more() && !breaker.asks_no_more(), "nobody else asks");
        assert_eq!((breaker.is_open(at(3)), breaker.may(at(3))), (false, May::Ask));
        // Who was to find out and is not heard of keeps the others from it for a while only.
        breaker.asks(at(3));
        assert_eq!(breaker.may(at(3) + PROBE), May::Ask);
        breaker.asks(at(3) + PROBE);
        assert_eq!(breaker.may(at(4) + PROBE), May::Wait);
        assert!(breaker.trip(None, at(4) + PROBE));
        assert_eq!((breaker.failures(), breaker.until()), (2, at(8) + PROBE));
    }

    #[test]
    fn what_is_free_again_is_asked_for_at_once_and_its_refusals_are_forgotten_in_time() {
        let mut refused = Refused::new(at(0));
        refused.refused(Some(MINUTE), at(0));
        assert_eq!((refused.since(), refused.breaker().until()), (Some(at(0)), at(60)));
        assert!(refused.freed(at(40)), "that was waited for");
        assert!(!refused.freed(at(40)) && !refused.freed(at(50)));
        assert_eq!((refused.breaker().until(), refused.may(at(40))), (at(40), May::Ask));
        assert_eq!([40, 41].map(|second| refused.is_forgotten(at(second) + FORGOTTEN)), [false, true]);
        refused.asks(at(50));
        assert_eq!(refused.may(at(50)), May::Wait);
        refused.asks_no_more();
        assert_eq!(refused.may(at(50)), May::Ask);
    }

    #[test]
    fn a_launch_that_is_taken_says_nothing_during_the_pause_or_where_nobody_was_to_find_out() {
        let mut refused = Refused::new(at(0));
        refused.refused(None, at(0));
        refused.asks(at(1));
        assert!(!refused.taken(at(1)), "it was under way before");
        assert!(refused.taken(at(2)));
        (0..9).for_each(|_| assert!(!refused.taken(at(3))));
        assert!(!refused.is_over(), "of those that did not find out");
    }
}
