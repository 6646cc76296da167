//! Builds that a scenario starts by hand and looks at afterwards, on one master.

use serde_json::{Value, json};

use super::{Api, Master, Options, Scratch, wait};

/// A master with a folder of its own.
pub struct Bench {
    // In this order: the master ends before its folder goes.
    pub master: Master,
    pub scratch: Scratch,
    pub api: Api,
}

impl Bench {
    /// `config` is what follows `version: 1`.
    pub fn new(config: &str) -> Self {
        Self::within(Scratch::new(), config, Options::default())
    }

    /// The same in a folder that holds something already, a repository for instance.
    pub fn within(scratch: Scratch, config: &str, options: Options) -> Self {
        let master = Master::start(scratch.path(), &format!("version: 1\n{config}"), options);
        let api = master.api();
        Self { master, scratch, api }
    }

    /// Starts a builder; the request's number.
    pub fn start(&self, builder: &str) -> i64 {
        self.start_with(builder, &json!({}))
    }

    /// The same with properties, sources, a reason.
    pub fn start_with(&self, builder: &str, wish: &Value) -> i64 {
        let made = self.api.post(&format!("/builders/{builder}/build"), wish);
        made["requests"][0]["id"].as_i64().unwrap_or_else(|| panic!("no request was made: {made}"))
    }

    /// Waits for a request's end; its last build, whole.
    pub fn ended(&self, request: i64) -> Build {
        Build { api: self.api.clone(), detail: self.api.until_built(request) }
    }

    /// Waits for the request's running build to come so far.
    pub fn running(&self, request: i64, what: &str, look: impl Fn(&Build) -> bool) -> Build {
        let path = format!("/builds?request={request}&open=true");
        self.api.until(what, &path, wait::A_BUILD, |builds| {
            let build = self.build(builds["items"][0]["id"].as_i64()?);
            look(&build).then_some(build)
        })
    }

    pub fn build(&self, id: i64) -> Build {
        Build { api: self.api.clone(), detail: self.api.get(&format!("/builds/{id}")) }
    }

    /// Starts a builder and waits for its end.
    pub fn run(&self, builder: &str) -> Build {
        self.ended(self.start(builder))
    }

    /// `rouse` with these arguments, which must succeed; what it printed.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.master.cli(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rouse {}: {complaint}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A build as the API shows it.
pub struct Build {
    api: Api,
    pub detail: Value,
}

impl Build {
    /// As it was read.
    pub fn of(api: &Api, detail: Value) -> Self {
        Self { api: api.clone(), detail }
    }

    pub fn id(&self) -> i64 {
        self.detail["id"].as_i64().expect("a build has a number")
    }

    pub fn result(&self) -> &str {
        self.detail["result"].as_str().unwrap_or("none yet")
    }

    pub fn summary(&self) -> &str {
        self.detail["summary"].as_str().unwrap_or_default()
    }

    /// # Panics
    /// With the whole build, where it ended otherwise.
    pub fn must_be(&self, result: &str) {
        assert_eq!(self.result(), result, "{:#}", self.detail);
    }

    pub fn has_step(&self, name: &str) -> bool {
        self.steps().iter().any(|step| step["name"] == name)
    }

    pub fn step(&self, name: &str) -> &Value {
        let found = self.steps().iter().find(|step| step["name"] == name);
        found.unwrap_or_else(|| panic!("no step `{name}` in {:#}", self.detail))
    }

    pub fn steps(&self) -> &[Value] {
        self.detail["steps"].as_array().map_or(&[], Vec::as_slice)
    }

    /// A step's result and what is said of it.
    pub fn end_of(&self, step: &str) -> (&str, &str) {
        let step = self.step(step);
        (step["result"].as_str().unwrap_or("none yet"), step["summary"].as_str().unwrap_or_default())
    }

    /// The number of a step's log.
    pub fn log_of(&self, step: &str) -> i64 {
        let step = self.step(step);
        step["logs"][0]["id"].as_i64().unwrap_or_else(|| panic!("the step has no log: {step:#}"))
    }

    /// What a step has printed, byte by byte.
    pub fn bytes(&self, step: &str) -> Vec<u8> {
        self.api.bytes(&format!("/logs/{}/raw", self.log_of(step)))
    }

    pub fn text(&self, step: &str) -> String {
        String::from_utf8_lossy(&self.bytes(step)).into_owned()
    }

    pub fn property(&self, name: &str) -> &Value {
        let all = self.detail["properties"].as_array().map_or(&[][..], Vec::as_slice);
        all.iter()
            .find(|property| property["name"] == name)
            .map_or(&Value::Null, |property| &property["value"])
    }
}
