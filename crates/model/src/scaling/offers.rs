//! What the next worker is launched as, where its pool may choose: the first of its offers that can be had, each of which is tried for its time, and of that
//! the cheapest by what is known of it.
//!
//! Whether an offering can be had is known from launches alone. One that refused is let alone for a while; then one launch finds out, and as long as that
//! goes wrong the offering counts as refused without a break. So a pool comes back to its first offer by itself.

use crate::Timestamp;
use crate::money::Price;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Offerings that are as good as each other but for their price.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// How long all of them must have been refused without a break before the next offer is taken; `None`: at once.
    pub try_for: Option<Duration>,
    pub of: Vec<Offering>,
}

/// One thing that a worker may be launched as.
#[derive(Debug, Clone, PartialEq)]
pub struct Offering {
    pub name: String,
    pub price: Price,
    pub standing: Standing,
    pub record: Record,
}

/// Whether an offering can be had now, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be launched: nothing speaks against it, or nobody finds out yet whether that is still so.
    Open,
    /// Somebody finds out; refused for so long before that, where it was.
    Asked { refused_for: Option<Duration> },
    /// It was refused for so long without a break, and is let alone for so long.
    Refused { refused_for: Duration, again_in: Duration },
}

/// What became of workers of an offering, lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// That its provider took.
    pub launched: u32,
    /// Whose agents came.
    pub came: u32,
    /// That their owner wanted back.
    pub interrupted: u32,
    /// How long they were there.
    pub there: Duration,
    /// How much of that was lost, as its end was an interruption.
    pub lost: Duration,
}

/// So many launches that came, and so long without an interruption, are taken for granted of what is not known yet.
const TRUSTED: f64 = 4.0;
const TRUSTED_HOURS: f64 = 2.0;
/// What an interruption costs of what a worker had done, at most: the builds before the last one are safe.
pub const LOST_AT_MOST: Duration = Duration::from_secs(3600);

impl Record {
    /// Counts one worker that its provider took, for as long as it was there.
    pub fn add(&mut self, there: Duration, came: bool, interrupted: bool) {
        self.launched += 1;
        self.came += u32::from(came);
        self.there += there;
        if interrupted {
            self.interrupted += 1;
            self.lost += there.min(LOST_AT_MOST);
        }
    }

    /// The share of launches that come up, from 0 to 1 and never 0.
    #[must_use]
    pub fn comes(&self) -> f64 {
        (f64::from(self.came.min(self.launched)) + TRUSTED) / (f64::from(self.launched) + TRUSTED)
    }

    /// The share of time that is not lost, from 0 to 1 and never 0.
    #[must_use]
    pub fn keeps(&self) -> f64 {
        let hours = |time: Duration| time.as_secs_f64() / 3600.0;
        let there = hours(self.there) + TRUSTED_HOURS;
        (there - hours(self.lost.min(self.there))) / there
    }

    /// What an hour that is of use costs, by what one costs at all.
    #[must_use]
    pub fn score(&self, price: Price) -> f64 {
        // What costs nothing is judged by the rest alone.
        price.0.max(1) as f64 / (self.comes() * self.keeps())
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub next: Next,
    /// What would have come before it, in order of the offers.
    pub passed: Vec<Passed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// By its place: the offer, and within it.
    Launch { offer: usize, at: usize },
    /// Nothing, until so much time has passed, or somebody who finds out is back.
    Wait(Option<Duration>),
    /// What can be had costs more than there is.
    TooDear,
}

/// An offering that was passed over, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    pub offer: usize,
    pub at: usize,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It cannot be had, for so long.
    Refused {
        refused_for: Duration,
    },
    /// Somebody finds out whether it can.
    Asked,
    TooDear,
}

/// One that was passed over, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    pub offering: String,
    /// Refused since then; absent where it was not refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What its provider said, or why else, for a person.
    pub why: String,
}

/// What the next worker is, where `pays_for` says whether there is money for one at a price.
#[must_use]
pub fn choose(offers: &[Offer], pays_for: impl Fn(Price) -> bool) -> Choice {
    let mut passed = Vec::new();
    let mut waits = Waits::default();
    for (number, offer) in offers.iter().enumerate() {
        let best = best_of(offer, &pays_for);
        let score = best.map(|at| offer.of[at].score());
        for (at, one) in offer.of.iter().enumerate() {
            if let Some(why) = one.against(&pays_for)
                && score.is_none_or(|score| one.score() < score)
            {
                passed.push(Passed { offer: number, at, why });
            }
        }
        if let Some(at) = best {
            return Choice { next: Next::Launch { offer: number, at }, passed };
        }
        let wanted = || offer.of.iter().filter(|one| pays_for(one.price));
        wanted().for_each(|one| waits.until(one.standing));
        let least = wanted().map(|one| one.refused_for()).min();
        match least {
            // All of them are too dear.
            None => {}
            Some(Some(refused)) if refused >= offer.try_for.unwrap_or_default() => {}
            Some(refused) => {
                if let Some(refused) = refused
                    && number + 1 < offers.len()
                {
                    waits.at_most(offer.try_for.unwrap_or_default().saturating_sub(refused));
                }
                return Choice { next: waits.next(), passed };
            }
        }
    }
    Choice { next: waits.next(), passed }
}

/// The cheapest of an offer by what is known, of those that can be had; the first of equals.
fn best_of(offer: &Offer, pays_for: &impl Fn(Price) -> bool) -> Option<usize> {
    let open = offer.of.iter().enumerate().filter(|(_, one)| one.against(pays_for).is_none());
    open.min_by(|(_, one), (_, other)| one.score().total_cmp(&other.score())).map(|(at, _)| at)
}

impl Offering {
    fn score(&self) -> f64 {
        self.record.score(self.price)
    }

    /// What speaks against it.
    fn against(&self, pays_for: &impl Fn(Price) -> bool) -> Option<Why> {
        match self.standing {
            Standing::Refused { refused_for, .. } => Some(Why::Refused { refused_for }),
            Standing::Asked { refused_for: Some(refused_for) } => Some(Why::Refused { refused_for }),
            Standing::Asked { refused_for: None } => Some(Why::Asked),
            Standing::Open if !pays_for(self.price) => Some(Why::TooDear),
            Standing::Open => None,
        }
    }

    fn refused_for(&self) -> Option<Duration> {
        match self.standing {
            Standing::Open => None,
            Standing::Asked { refused_for } => refused_for,
            Standing::Refused { refused_for, .. } => Some(refused_for),
        }
    }
}

/// How long nothing can be launched.
#[derive(Default)]
struct Waits {
    any: bool,
    /// Somebody is asked, and may be back at any time.
    asked: bool,
    least: Option<Duration>,
}

impl Waits {
    fn until(&mut self, standing: Standing) {
        self.any = true;
        match standing {
            Standing::Refused { again_in, .. } => self.at_most(again_in),
            Standing::Open | Standing::Asked { .. } => self.asked = true,
        }
    }

    fn at_most(&mut self, wait: Duration) {
        self.least = Some(self.least.map_or(wait, |least| least.min(wait)));
    }

    fn next(&self) -> Next {
        match self {
            Self { any: false, .. } => Next::TooDear,
            Self { asked: true, .. } => Next::Wait(None),
            Self { least, .. } => Next::Wait(*least),
        }
    }
}
