//! Decisions about how many workers a pool has, as they are kept: what was there, what the sum came to, and what was done.

use crate::budget::Standing;
use crate::money::Price;
use crate::scaling::offers::PassedOver;
use crate::scaling::{Bound, Capacity, Limits, Reason, Terms, beside_max};
use crate::{ConfigRevisionId, DecisionId, MasterId, Timestamp, Trust, WorkerId};
use serde::{Deserialize, Serialize};

/// What a pass of the fleet came to for one pool. Passes that came to the same one after the other are one decision, with the sums of the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub id: DecisionId,
    pub pool: String,
    pub code: DecisionCode,
    /// The first pass.
    pub at: Timestamp,
    /// The last one that was written down.
    pub until: Timestamp,
    pub passes: i64,
    /// Config revision that it was made under.
    pub config: ConfigRevisionId,
    pub master: MasterId,
    pub reckoning: Reckoning,
}

/// What came of it. Each has an entry in the docs under its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionCode {
    /// Workers were launched.
    Launch,
    /// Workers were launched as a later one of their pool's offers: those before it could not be had.
    FallBack,
    /// Parked workers were resumed, and none launched.
    Resume,
    /// Workers were ended, and none launched or resumed.
    End,
    /// Idle workers were parked instead of ended, and nothing else was done.
    Park,
    /// More are wanted than may be on their way at one time.
    Ramp,
    /// More are wanted, and no provider has room.
    ProvidersFull,
    /// More are wanted than the pool's maximum.
    PoolFull,
    /// More are wanted than may be paid for.
    Budget,
    /// What is wanted is there, on its way, or will be free as soon as another worker could be.
    Met,
    /// Nothing is wanted.
    Rest,
}

impl DecisionCode {
    pub const ALL: [Self; 11] = [
        Self::Launch,
        Self::FallBack,
        Self::Resume,
        Self::End,
        Self::Park,
        Self::Ramp,
        Self::ProvidersFull,
        Self::PoolFull,
        Self::Budget,
        Self::Met,
        Self::Rest,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::FallBack => "fall_back",
            Self::Resume => "resume",
            Self::End => "end",
            Self::Park => "park",
            Self::Ramp => "ramp",
            Self::ProvidersFull => "providers_full",
            Self::PoolFull => "pool_full",
            Self::Budget => "budget",
            Self::Met => "met",
            Self::Rest => "rest",
        }
    }

    /// Something was done, so it is never the same as the one before.
    #[must_use]
    pub fn is_deed(self) -> bool {
        matches!(self, Self::Launch | Self::FallBack | Self::Resume | Self::End | Self::Park)
    }
}

/// What a decision was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reckoning {
    pub min: usize,
    pub max: usize,
    pub slots: usize,
    /// Workers that are not gone, the launched ones not among them.
    pub workers: usize,
    /// Those of them that only wait for builds that theirs have started, and do not count in `max`.
    #[serde(default)]
    pub waiting: usize,
    /// How long a worker takes to come, in seconds; absent where that is not known.
    pub boot_s: Option<f64>,
    /// An idle worker may end after so many seconds.
    pub idle_s: f64,
    /// The budget of which least was left, before it; absent where the pool has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Standing>,
    /// Of each class that something is wanted of.
    pub sums: Vec<Sum>,
    /// Offerings that would have come before what was launched, or was not, and why they did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<PassedOver>,
    /// Whose end was decided, but for those that had served all that they may.
    pub ended: Vec<(WorkerId, Reason)>,
    /// Parked workers that were resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<WorkerId>,
    /// Idle workers that were parked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<WorkerId>,
}

/// The sum of one class, in slots, and the answer, in workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    pub project: String,
    pub trust: Trust,
    pub spec_digest: String,
    pub terms: Terms,
    pub launched: usize,
    /// What those were launched as, where their pool may choose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offerings: Vec<LaunchedAs>,
    /// What would be launched but for a limit.
    pub held_back: usize,
}

/// Workers that were launched as the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchedAs {
    pub offering: String,
    pub price: Price,
    pub count: usize,
}

/// Why less was launched than was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    By(Bound),
    /// No provider has room.
    Room,
}

impl Reckoning {
    /// With nothing in it yet but the limits.
    #[must_use]
    pub fn within(limits: &Limits, capacity: &[Capacity]) -> Self {
        Self {
            min: limits.min,
            max: limits.max,
            slots: limits.slots,
            workers: capacity.len(),
            waiting: beside_max(limits, capacity),
            boot_s: limits.boot.map(|boot| boot.as_secs_f64()),
            idle_s: limits.idle.as_secs_f64(),
            budget: None,
            sums: Vec::new(),
            passed: Vec::new(),
            ended: Vec::new(),
            resumed: Vec::new(),
            parked: Vec::new(),
        }
    }

    #[must_use]
    pub fn launched(&self) -> usize {
        self.sums.iter().map(|sum| sum.launched).sum()
    }

    #[must_use]
    pub fn held_back(&self) -> usize {
        self.sums.iter().map(|sum| sum.held_back).sum()
    }

    /// What it comes to; `fell_back`: what was launched is of an offer that is not the first.
    #[must_use]
    pub fn code(&self, short: Option<Short>, fell_back: bool) -> DecisionCode {
        match short {
            _ if self.launched() > 0 && fell_back => DecisionCode::FallBack,
            _ if self.launched() > 0 => DecisionCode::Launch,
            _ if !self.resumed.is_empty() => DecisionCode::Resume,
            _ if !self.ended.is_empty() => DecisionCode::End,
            _ if !self.parked.is_empty() => DecisionCode::Park,
            Some(Short::Room) => DecisionCode::ProvidersFull,
            Some(Short::By(Bound::Max)) => DecisionCode::PoolFull,
            Some(Short::By(Bound::Ramp)) => DecisionCode::Ramp,
            Some(Short::By(Bound::Budget)) => DecisionCode::Budget,
            None if self.sums.iter().any(|sum| sum.terms.is_anything()) => DecisionCode::Met,
            None => DecisionCode::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(waiting: usize, launched: usize, held_back: usize) -> Sum {
        let terms = Terms { waiting, ..Terms::default() };
        Sum {
            project: "default".into(),
            trust: Trust::Trusted,
            spec_digest: "d".into(),
            terms,
            launched,
            offerings: Vec::new(),
            held_back,
        }
    }

    fn reckoning(sums: Vec<Sum>) -> Reckoning {
        Reckoning {
            min: 0,
            max: 9,
            slots: 1,
            workers: 0,
            waiting: 0,
            boot_s: None,
            idle_s: 0.0,
            budget: None,
            sums,
            passed: Vec::new(),
            ended: Vec::new(),
            resumed: Vec::new(),
            parked: Vec::new(),
        }
    }

    #[test]
    fn what_was_done_is_said_first_then_what_held_it_back() {
        use DecisionCode::*;
        let ended = || vec![(WorkerId(1), Reason::Idle)];
        let all = [Short::By(Bound::Max), Short::By(Bound::Ramp), Short::By(Bound::Budget), Short::Room];
        let of = |reckoning: &Reckoning| all.map(|short| reckoning.code(Some(short), false));
        let launches = Reckoning { ended: ended(), ..reckoning(vec![sum(3, 0, 1), sum(3, 2, 1)]) };
        assert_eq!((launches.launched(), launches.held_back(), launches.code(None, false)), (2, 2, Launch));
        assert_eq!(of(&launches), [Launch; 4]);
        assert_eq!((launches.code(None, true), launches.code(Some(Short::Room), true)), (FallBack, FallBack));
        let ends = Reckoning { ended: ended(), ..reckoning(vec![sum(3, 0, 3)]) };
        assert_eq!((ends.launched(), ends.held_back(), ends.code(None, false)), (0, 3, End));
        assert_eq!(of(&ends), [End; 4]);
        let (resumed, parked) = (vec![WorkerId(2)], vec![WorkerId(3)]);
        let parks = Reckoning { parked, ..reckoning(vec![sum(3, 0, 3)]) };
        assert_eq!(of(&parks), [Park; 4]);
        assert_eq!(of(&Reckoning { ended: ended(), ..parks.clone() }), [End; 4]);
        assert_eq!(of(&Reckoning { resumed, ended: ended(), ..parks }), [Resume; 4]);
        let held = reckoning(vec![sum(3, 0, 3)]);
        assert_eq!(of(&held), [PoolFull, Ramp, Budget, ProvidersFull]);
        assert_eq!(held.code(None, true), Met, "nothing was launched");
        assert_eq!((held.code(None, false), reckoning(vec![sum(0, 0, 0)]).code(None, false)), (Met, Rest));
    }

    #[test]
    fn each_code_has_the_name_that_it_is_kept_under() {
        for code in DecisionCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(
                code.is_deed(),
                ["launch", "fall_back", "resume", "end", "park"].contains(&code.as_str())
            );
        }
    }
}
