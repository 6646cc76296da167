//! What the fleet came to, on the wire.

use super::auth::Caller;
use super::moment::Moment;
use super::words::Trust;
use crate::explain::decision::{docs, sentence};
use rouse_model::budget::Standing;
use rouse_model::decision::{Decision, LaunchedAs, Sum};
use rouse_model::money::Money;
use rouse_model::scaling::Reason;
use rouse_model::scaling::offers::PassedOver;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a pass of the fleet came to for a pool, and those after it that came to the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    pub id: i64,
    pub pool: String,
    /// What came of it: `launch`, `fall_back`, `resume`, `end`, `park`, `ramp`, `providers_full`, `pool_full`, `budget`, `met`, `rest`.
    pub code: String,
    /// Whole, for a person.
    pub sentence: String,
    /// Where the docs explain it.
    pub docs: String,
    /// The first pass.
    pub at: Moment,
    /// The last one that was written down.
    pub until: Moment,
    pub passes: i64,
    pub min: usize,
    pub max: usize,
    /// Builds that one worker runs at the same time.
    pub slots: usize,
    /// Workers that were not gone then, the launched ones not among them.
    pub workers: usize,
    /// Seconds that a worker takes to come, nine of ten; null where that was not known.
    pub boot: Option<f64>,
    /// An idle worker might end after so many seconds.
    pub idle: f64,
    /// The limit of its budget of which least was left; null where it has none.
    pub budget: Option<StandingView>,
    /// Of each class that something was wanted of, and that the caller may see.
    pub sums: Vec<SumView>,
    /// Offerings that would have come before what was launched, or was held back.
    pub passed: Vec<PassedView>,
    /// Whose end was decided.
    pub ended: Vec<EndedView>,
    /// Parked workers that were resumed.
    pub resumed: Vec<i64>,
    /// Idle workers that were parked.
    pub parked: Vec<i64>,
    /// The config revision that it was made under.
    pub config: i64,
    /// The master that made it.
    pub master: i64,
}

/// How a budget stood, in the configuration's currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StandingView {
    /// As it is written: `30.00 USD/day`.
    pub limit: String,
    /// That, with what was granted beyond it.
    pub amount: f64,
    /// Since it began anew.
    pub spent: f64,
    /// What the workers that were there might still cost.
    pub promised: f64,
    /// What one more was counted with.
    pub launch: f64,
    /// When it begins anew.
    pub until: Moment,
}

impl From<Standing> for StandingView {
    fn from(standing: Standing) -> Self {
        Self {
            limit: standing.limit,
            amount: standing.amount.as_f64(),
            spent: standing.spent.as_f64(),
            promised: standing.promised.as_f64(),
            launch: standing.launch.as_f64(),
            until: standing.until.into(),
        }
    }
}

/// The sum of one class in slots, as of one boot time after the decision, and the answer in workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SumView {
    pub project: String,
    pub trust: Trust,
    pub spec_digest: String,
    pub waiting: usize,
    /// Each by how likely it is.
    pub announced: f64,
    /// Likely to come without a word.
    pub unforeseen: f64,
    /// Kept for what may come otherwise than foretold.
    pub reserve: f64,
    pub free: usize,
    /// On their way.
    pub booting: usize,
    /// Likely given back by what runs.
    pub ending: f64,
    pub launched: usize,
    /// What those were launched as, where the pool may choose.
    pub offerings: Vec<LaunchedAsView>,
    /// What would have been launched but for a limit.
    pub held_back: usize,
}

/// Workers that were launched as the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaunchedAsView {
    pub offering: String,
    /// For an hour of one of them, in the configuration's currency.
    pub price: f64,
    pub count: usize,
}

/// An offering that was passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PassedView {
    pub offering: String,
    /// Refused without a break since then; null where it was passed over for another reason.
    pub since: Option<Moment>,
    /// For a person.
    pub why: String,
}

/// A worker whose end was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndedView {
    pub worker: i64,
    /// `idle`, `displaced` by another class, or `budget`.
    pub why: String,
}

/// For a caller, who sees the classes of projects that are theirs.
pub(super) fn view(caller: &Caller, decision: Decision) -> DecisionView {
    let sentence = sentence(&decision);
    let told = decision.reckoning;
    let sums = told.sums.into_iter().filter(|sum| caller.sees(&sum.project));
    DecisionView {
        id: decision.id.0,
        pool: decision.pool,
        code: decision.code.as_str().to_owned(),
        sentence,
        docs: docs(decision.code),
        at: decision.at.into(),
        until: decision.until.into(),
        passes: decision.passes,
        min: told.min,
        max: told.max,
        slots: told.slots,
        workers: told.workers,
        boot: told.boot_s,
        idle: told.idle_s,
        budget: told.budget.map(StandingView::from),
        sums: sums.map(SumView::from).collect(),
        passed: told.passed.into_iter().map(PassedView::from).collect(),
        ended: told
            .ended
            .into_iter()
            .map(|(worker, why)| EndedView { worker: worker.0, why: word(why) })
            .collect(),
        resumed: told.resumed.into_iter().map(|worker| worker.0).collect(),
        parked: told.parked.into_iter().map(|worker| worker.0).collect(),
        config: decision.config.0,
        master: decision.master.0,
    }
}

fn word(reason: Reason) -> String {
    match reason {
        Reason::Idle => "idle",
        Reason::Displaced => "displaced",
        Reason::Used => "used",
        Reason::Budget => "budget",
    }
    .to_owned()
}

impl From<Sum> for SumView {
    fn from(sum: Sum) -> Self {
        let terms = sum.terms;
        Self {
            project: sum.project,
            trust: sum.trust.into(),
            spec_digest: sum.spec_digest,
            waiting: terms.waiting,
            announced: terms.announced,
            unforeseen: terms.unforeseen,
            reserve: terms.reserve,
            free: terms.free,
            booting: terms.booting,
            ending: terms.ending,
            launched: sum.launched,
            offerings: sum.offerings.into_iter().map(LaunchedAsView::from).collect(),
            held_back: sum.held_back,
        }
    }
}

impl From<LaunchedAs> for LaunchedAsView {
    fn from(LaunchedAs { offering, price, count }: LaunchedAs) -> Self {
        Self { offering, price: Money(price.0).as_f64(), count }
    }
}

impl From<PassedOver> for PassedView {
    fn from(PassedOver { offering, since, why }: PassedOver) -> Self {
        Self { offering, since: since.map(Moment), why }
    }
}
