//! What scenarios ask a master again and again, in words.

use serde_json::Value;

use super::api::Api;
use super::wait;

impl Api {
    /// Buildsets of one scheduler, oldest first.
    pub fn buildsets(&self, scheduler: &str) -> Vec<Value> {
        let mut all = self.list(&format!("/buildsets?scheduler={scheduler}"));
        all.reverse();
        all
    }

    /// Waits until a scheduler has made so many, and says which. That it does not make more, a later push shows.
    pub fn until_buildsets(&self, scheduler: &str, count: usize) -> Vec<Value> {
        let made = wait::until(&format!("{count} buildsets of `{scheduler}`"), wait::A_BUILD, || {
            Some(self.buildsets(scheduler)).filter(|made| made.len() >= count)
        });
        assert_eq!(made.len(), count, "`{scheduler}` has made too many: {:#?}", sources(&made));
        made
    }

    /// Waits for the end of a buildset and gives its result.
    pub fn until_result(&self, buildset: i64) -> String {
        self.until("a buildset to end", &format!("/buildsets/{buildset}"), wait::A_BUILD, |buildset| {
            buildset["result"].as_str().map(str::to_string)
        })
    }

    /// Waits for the end of a build and gives it with its steps.
    pub fn until_build(&self, build: i64) -> Value {
        self.until("a build to end", &format!("/builds/{build}"), wait::A_BUILD, |build| {
            Some(build.clone()).filter(|build| !build["result"].is_null())
        })
    }

    /// Waits until a request has a build and that has ended.
    pub fn until_built(&self, request: i64) -> Value {
        let build = self.until("a build", &format!("/requests/{request}"), wait::A_BUILD, |request| {
            request["build"].as_i64().filter(|_| request["state"] == "done")
        });
        self.until_build(build)
    }

    /// Waits until a poller knows where a branch stands.
    pub fn until_head(&self, codebase: &str, branch: &str, revision: Option<&str>) {
        let what = format!("`{branch}` of `{codebase}` to be seen at {revision:?}");
        self.until(&what, &format!("/codebases/{codebase}"), wait::A_BUILD, |codebase| {
            let heads = codebase["heads"].as_array()?;
            let head = heads.iter().find(|head| head["branch"] == branch)?;
            (head["revision"].as_str() == revision).then_some(())
        });
    }

    /// Waits until all of these have been looked at.
    pub fn until_looked(&self, codebases: &[&str]) {
        for codebase in codebases {
            self.until("a first look", &format!("/codebases/{codebase}"), wait::A_BUILD, |codebase| {
                codebase["looked"].as_str().map(drop)
            });
        }
    }

    /// What a step of a build has printed.
    pub fn output(&self, build: &Value, step: usize) -> String {
        let log = &build["steps"][step]["logs"][0]["id"];
        String::from_utf8(self.bytes(&format!("/logs/{log}/raw"))).expect("the step prints text")
    }
}

/// `codebase branch revision` of what buildsets build.
pub fn sources(buildsets: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    buildsets
        .iter()
        .flat_map(|buildset| buildset["sources"].as_array().expect("a buildset has sources"))
        .map(|s| format!("{} {} {}", text(&s["codebase"]), text(&s["branch"]), text(&s["revision"])))
        .collect()
}

/// The number under a name.
pub fn id(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_else(|| panic!("no number `{name}` in {value:#}"))
}
