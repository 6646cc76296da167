//! What the fleet came to for a pool, in words.

use super::reason::seconds;
use chrono::{DateTime, Utc};
use rouse_model::Timestamp;
use rouse_model::budget::Standing;
use rouse_model::decision::{Decision, DecisionCode, LaunchedAs, Sum};
use rouse_model::money::{Money, Price};
use rouse_model::scaling::offers::PassedOver;
use rouse_model::scaling::{Reason, Terms};
use std::fmt::Write;

/// Where the docs explain what came of it.
#[must_use]
pub fn docs(code: DecisionCode) -> String {
    format!("docs/reference/reasons.md#decision_{}", code.as_str())
}

/// Whole, for a person, without a full stop: what was done, and the sum that it follows from.
#[must_use]
pub fn sentence(decision: &Decision) -> String {
    let told = &decision.reckoning;
    let more = told.held_back();
    let mut text = match decision.code {
        DecisionCode::Launch | DecisionCode::FallBack => {
            format!("launched {}{}", told.launched(), launched_as(&told.sums))
        }
        DecisionCode::Resume => format!("resumed {}", told.resumed.len()),
        DecisionCode::End => ended(&told.ended),
        DecisionCode::Park => format!("parked {} that idled for long enough", told.parked.len()),
        DecisionCode::Ramp => format!("{more} more wanted, and enough are on their way at one time"),
        DecisionCode::ProvidersFull => format!("{more} more wanted, and no provider has room"),
        DecisionCode::PoolFull => format!("{more} more wanted, and the maximum of {} is reached", told.max),
        DecisionCode::Budget => {
            let why = told.budget.as_ref().map_or_else(String::new, unaffordable);
            format!("{more} more wanted, and {why}")
        }
        DecisionCode::Met => "nothing lacks".to_owned(),
        DecisionCode::Rest => "nothing is wanted".to_owned(),
    };
    let terms = all_terms(&told.sums);
    if terms.is_anything() {
        let _ = write!(text, ": {}", sum(&terms));
    }
    if matches!(decision.code, DecisionCode::Launch | DecisionCode::FallBack | DecisionCode::Resume) {
        if more > 0 {
            let _ = write!(text, "; {more} more held back");
        }
        if decision.code != DecisionCode::Resume && !told.resumed.is_empty() {
            let _ = write!(text, "; resumed {}", told.resumed.len());
        }
        if !told.ended.is_empty() {
            let _ = write!(text, "; {}", ended(&told.ended));
        }
    }
    if decision.code != DecisionCode::Park && !told.parked.is_empty() {
        let _ = write!(text, "; parked {}", told.parked.len());
    }
    if let Some(passed) = passed_over(&told.passed, decision.until) {
        let _ = write!(text, "; {passed}");
    }
    if let Some(waiting) = waiting(told.waiting) {
        let _ = write!(text, "; {waiting}");
    }
    text
}

/// `2 workers wait for builds that they started, not counted`.
pub(super) fn waiting(workers: usize) -> Option<String> {
    match workers {
        0 => None,
        1 => Some("1 worker waits for builds that it started, not counted".to_owned()),
        n => Some(format!("{n} workers wait for builds that they started, not counted")),
    }
}

/// ` as spot a, 0.14 an hour`, or how many as what; nothing where their pool has nothing to choose.
fn launched_as(sums: &[Sum]) -> String {
    let mut all: Vec<LaunchedAs> = Vec::new();
    for one in sums.iter().flat_map(|sum| &sum.offerings) {
        match all.iter_mut().find(|known| known.offering == one.offering && known.price == one.price) {
            Some(known) => known.count += one.count,
            None => all.push(one.clone()),
        }
    }
    let price = |one: &LaunchedAs| match one.price {
        Price::NONE => String::new(),
        price => format!(", {} an hour", Money(price.0)),
    };
    match all.as_slice() {
        [] => String::new(),
        [one] => format!(" as {}{}", one.offering, price(one)),
        several => {
            let part = |one: &LaunchedAs| format!("{} as {}{}", one.count, one.offering, price(one));
            format!(" ({})", several.iter().map(part).collect::<Vec<_>>().join("; "))
        }
    }
}

/// `passed over: spot a, refused for 5 min (no capacity for spot a)`.
fn passed_over(passed: &[PassedOver], now: Timestamp) -> Option<String> {
    let part = |one: &PassedOver| match one.since {
        Some(since) => format!("{}, refused for {} ({})", one.offering, seconds(now.since(since)), one.why),
        None => format!("{} ({})", one.offering, one.why),
    };
    let parts: Vec<String> = passed.iter().map(part).collect();
    (!parts.is_empty()).then(|| format!("passed over: {}", parts.join("; ")))
}

/// `5 waiting + 1.8 announced − 3 free − 2 on their way`, as of one boot time from the decision.
#[must_use]
pub fn sum(terms: &Terms) -> String {
    let plus = [
        (terms.waiting as f64, "waiting"),
        (terms.announced, "announced"),
        (terms.unforeseen, "that may come unannounced"),
        (terms.reserve, "in reserve"),
    ];
    let minus = [
        (terms.free as f64, "free"),
        (terms.booting as f64, "on their way"),
        (terms.ending, "likely to fall free"),
    ];
    let part = |(count, word): &(f64, &str)| {
        let one = (count * 10.0).round() / 10.0;
        (one > 0.0).then(|| format!("{one} {word}"))
    };
    let mut text = plus.iter().filter_map(part).collect::<Vec<_>>().join(" + ");
    for part in minus.iter().filter_map(part) {
        let _ = write!(text, " − {part}");
    }
    text
}

/// What a budget says to one worker more.
#[must_use]
pub fn unaffordable(standing: &Standing) -> String {
    let Standing { limit, amount, spent, promised, launch, until } = standing;
    let granted = if limit.starts_with(&format!("{amount} ")) {
        String::new()
    } else {
        format!(" ({amount} with what was granted)")
    };
    format!(
        "the budget of {limit}{granted} has not the {launch} that one is counted with: {spent} spent, {promised} promised to those that are there; it begins anew at {}",
        moment(*until)
    )
}

fn moment(at: Timestamp) -> String {
    let at = DateTime::<Utc>::from_timestamp_micros(at.0);
    at.map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// The sums of several classes as one.
fn all_terms(sums: &[Sum]) -> Terms {
    sums.iter().fold(Terms::default(), |all, Sum { terms, .. }| Terms {
        waiting: all.waiting + terms.waiting,
        announced: all.announced + terms.announced,
        unforeseen: all.unforeseen + terms.unforeseen,
        reserve: all.reserve + terms.reserve,
        free: all.free + terms.free,
        booting: all.booting + terms.booting,
        ending: all.ending + terms.ending,
    })
}

fn ended(ended: &[(rouse_model::WorkerId, Reason)]) -> String {
    let count = |wanted: Reason| ended.iter().filter(|(_, reason)| *reason == wanted).count();
    let parts = [
        (count(Reason::Idle), "that idled for long enough"),
        (count(Reason::Displaced), "to make room for another class"),
        (count(Reason::Budget), "that cost more than may be spent"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!("ended {n} {why}")).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::decision::Reckoning;
    use rouse_model::{ConfigRevisionId, DecisionId, MasterId, Timestamp, Trust, WorkerId};

    fn decision(terms: Terms, launched: usize, held_back: usize) -> Decision {
        let sum = |terms| Sum {
            project: "default".into(),
            trust: Trust::Trusted,
            spec_digest: "d".into(),
            terms,
            launched: 0,
            offerings: vec![],
            held_back: 0,
        };
        let first = Sum { launched, held_back, ..sum(terms) };
        let reckoning = Reckoning {
            min: 0,
            max: 8,
            slots: 1,
            workers: 0,
            waiting: 0,
            boot_s: None,
            idle_s: 120.0,
            budget: None,
            sums: vec![first, sum(Terms::default())],
            passed: vec![],
            ended: vec![],
            resumed: vec![],
            parked: vec![],
        };
        let code = reckoning.code(None, false);
        Decision {
            id: DecisionId(1),
            pool: "p".into(),
            code,
            at: Timestamp(0),
            until: Timestamp(0),
            passes: 1,
            config: ConfigRevisionId(1),
            master: MasterId(1),
            reckoning,
        }
    }

    #[test]
    fn a_decision_says_its_sum() {
        let terms = Terms {
            waiting: 5,
            announced: 1.84,
            unforeseen: 0.04,
            reserve: 0.3,
            free: 3,
            booting: 2,
            ending: 0.5,
        };
        let launch = decision(terms, 2, 1);
        assert_eq!(
            sentence(&launch),
            "launched 2: 5 waiting + 1.8 announced + 0.3 in reserve − 3 free − 2 on their way − 0.5 likely to fall free; 1 more held back"
        );
        let mut later = launch.clone();
        let as_one = |offering: &str, price, count| LaunchedAs {
            offering: offering.into(),
            price: Price(price),
            count,
        };
        later.reckoning.sums[0].offerings = vec![as_one("on demand", 170_000, 2)];
        later.reckoning.passed = vec![PassedOver {
            offering: "spot".into(),
            since: Some(later.until - std::time::Duration::from_secs(300)),
            why: "no capacity for spot".into(),
        }];
        later.code = later.reckoning.code(None, true);
        assert_eq!(later.code, DecisionCode::FallBack);
        let said = sentence(&later);
        assert!(said.starts_with("launched 2 as on demand, 0.17 an hour: 5 waiting + "), "{said}");
        assert!(said.ends_with("; passed over: spot, refused for 5 min (no capacity for spot)"), "{said}");
        later.reckoning.sums[0].offerings.insert(0, as_one("spot", 0, 1));
        let said = sentence(&later);
        assert!(said.starts_with("launched 2 (1 as spot; 2 as on demand, 0.17 an hour): "), "{said}");
        let met = decision(Terms { waiting: 1, booting: 1, ..Terms::default() }, 0, 0);
        assert_eq!(
            (met.code, sentence(&met).as_str()),
            (DecisionCode::Met, "nothing lacks: 1 waiting − 1 on their way")
        );
        let mut end = decision(Terms::default(), 0, 0);
        end.reckoning.ended =
            vec![(WorkerId(1), Reason::Idle), (WorkerId(2), Reason::Displaced), (WorkerId(3), Reason::Idle)];
        end.code = end.reckoning.code(None, false);
        assert_eq!(
            sentence(&end),
            "ended 2 that idled for long enough, ended 1 to make room for another class"
        );
        let rest = decision(Terms::default(), 0, 0);
        assert_eq!(sentence(&rest), "nothing is wanted");
    }
}
