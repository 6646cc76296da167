//! Builds by hand, as a person would start them, and what came of them.

use serde_json::{Value, json};

use super::api::Api;
use super::wait;

/// Starts a build of a builder; its request.
pub fn start(api: &Api, builder: &str, properties: Value) -> i64 {
    let made = api.post(&format!("/builders/{builder}/build"), &json!({"properties": properties}));
    made["requests"][0]["id"].as_i64().unwrap_or_else(|| panic!("a request was made: {made:#}"))
}

/// The same, and waits for its end; the build with its steps.
pub fn run(api: &Api, builder: &str, properties: Value) -> Value {
    api.until_built(start(api, builder, properties))
}

/// The same for one that has to be green; what its last step printed.
pub fn run_green(api: &Api, builder: &str, properties: Value) -> String {
    let build = run(api, builder, properties);
    let printed = printed(api, &build);
    assert_eq!(build["result"], "success", "{build:#}\n{printed}");
    printed
}

/// What a build's last step printed.
pub fn printed(api: &Api, build: &Value) -> String {
    let steps = build["steps"].as_array().cloned().unwrap_or_default();
    let Some(log) = steps.last().and_then(|step| step["logs"][0]["id"].as_i64()) else {
        return String::new();
    };
    String::from_utf8_lossy(&api.bytes(&format!("/logs/{log}/raw"))).into_owned()
}

/// Waits until a request is where `look` finds what is waited for; what `explain` says of it then.
pub fn explained<T>(api: &Api, request: i64, what: &str, look: impl Fn(&Value) -> Option<T>) -> T {
    api.until(what, &format!("/requests/{request}/explain"), wait::A_BUILD, look)
}
