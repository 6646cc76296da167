//! Hostile agents, and builds that are hostile from inside: what they forge is refused, what is too much is cut, and all of it is said where
//! a person looks.

use serde_json::Value;

use crate::harness::api::Api;

mod agent;
mod file_logs;
mod forged;
mod inside;
mod leave;
mod names;
mod stranger;
mod too_much;

/// What the worker's page says was refused on its link.
fn refusals(api: &Api, worker: i64) -> Vec<String> {
    let detail = api.get(&format!("/workers/{worker}"));
    let timeline = detail["timeline"].as_array().expect("a worker has a timeline");
    let refused = timeline.iter().filter(|moment| moment["what"] == "refused");
    refused.map(|moment| moment["cause"]["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until the worker's page says all of these.
fn must_say(api: &Api, worker: i64, codes: &[&str]) {
    let path = format!("/workers/{worker}");
    api.until(&format!("{codes:?} in the timeline"), &path, crate::harness::wait::SOON, |_: &Value| {
        let said = refusals(api, worker);
        codes.iter().all(|code| said.iter().any(|said| said.starts_with(&format!("{code}: ")))).then_some(())
    });
}
