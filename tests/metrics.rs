//! `/metrics` of real masters, and whether the dashboard, the alerts and the reference speak of what is really there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use regex::Regex;
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

use crate::harness::{Api, Bench, Options, Scratch, wait};

/// What Prometheus adds to each series.
const ADDED: [&str; 2] = ["job", "instance"];

/// A name's series, each with its labels and its value.
type Series = Vec<(BTreeMap<String, String>, f64)>;

/// What a master exports, by name.
struct Exported(BTreeMap<String, Series>);

impl Exported {
    fn by(api: &Api) -> Self {
        let text = String::from_utf8(api.bytes("/metrics")).expect("text");
        assert!(text.ends_with("# EOF\n"), "it is whole:\n{text}");
        let sample = Regex::new(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$").expect("a pattern");
        let label = Regex::new(r#"([a-z_]+)="([^"]*)""#).expect("a pattern");
        let mut found: BTreeMap<String, Series> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let parts = sample.captures(line).unwrap_or_else(|| panic!("no sample: {line}"));
            let labels = parts.get(2).map_or("", |labels| labels.as_str());
            let labels =
                label.captures_iter(labels).map(|pair| (pair[1].to_owned(), pair[2].to_owned())).collect();
            let value = parts[3].parse().unwrap_or_else(|_| panic!("no number: {line}"));
            found.entry(parts[1].to_owned()).or_default().push((labels, value));
        }
        Self(found)
    }

    /// The sum of all series with these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| of.get(*label).is_some_and(|v| v == value))
        };
        self.0.get(name).into_iter().flatten().filter(|(of, _)| has(of)).map(|(_, value)| value).sum()
    }

    fn labels(&self, name: &str) -> Option<BTreeSet<&str>> {
        let series = self.0.get(name)?;
        Some(series.iter().flat_map(|(labels, _)| labels.keys().map(String::as_str)).collect())
    }

    /// Metric by metric, histograms as one, with their labels.
    fn metrics(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for name in self.0.keys() {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let labels = self.labels(name).expect("it is there");
            let labels = labels.into_iter().filter(|label| *label != "le").map(str::to_owned);
            metrics.entry(of_histogram.unwrap_or(name).to_owned()).or_default().extend(labels);
        }
        metrics
    }
}

/// What a query speaks of against what there is.
struct Check<'a> {
    exported: &'a Exported,
    /// Labels of everything that the query selects.
    labels: BTreeSet<String>,
    /// Labels by which it groups or joins.
    grouped: BTreeSet<String>,
    faults: Vec<String>,
}

impl<'a> Check<'a> {
    /// Answers the labels that there are.
    fn of(exported: &'a Exported, query: &str) -> Result<BTreeSet<String>, Vec<String>> {
        let parsed = parser::parse(query).map_err(|error| vec![error])?;
        let labels = ADDED.map(str::to_owned).into();
        let mut check = Self { exported, labels, grouped: BTreeSet::new(), faults: Vec::new() };
        walk_expr(&mut check, &parsed).expect("it cannot fail");
        for label in check.grouped.difference(&check.labels) {
            check.faults.push(format!("nothing that is selected has the label `{label}`"));
        }
        if check.faults.is_empty() { Ok(check.labels) } else { Err(check.faults) }
    }

    fn select(&mut self, selected: &VectorSelector) {
        let name = selected.name.clone().unwrap_or_default();
        let Some(labels) = self.exported.labels(&name) else {
            self.faults.push(format!("there is no metric `{name}`"));
            return;
        };
        for matcher in &selected.matchers.matchers {
            if !labels.contains(matcher.name.as_str()) {
                self.faults.push(format!("`{name}` has no label `{}`", matcher.name));
                continue;
            }
            let exact = [(matcher.name.as_str(), matcher.value.as_str())];
            let is_one_of = |series: &Series| {
                series.iter().any(|(of, _)| of.get(exact[0].0).is_some_and(|v| v == exact[0].1))
            };
            if matches!(matcher.op, MatchOp::Equal | MatchOp::NotEqual) && !is_one_of(&self.exported.0[&name])
            {
                self.faults.push(format!("no `{name}` has {}=\"{}\"", exact[0].0, exact[0].1));
            }
        }
        self.labels.extend(labels.into_iter().map(str::to_owned));
    }
}

impl ExprVisitor for Check<'_> {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::VectorSelector(selected) => self.select(selected),
            Expr::MatrixSelector(selected) => self.select(&selected.vs),
            Expr::Aggregate(aggregate) => {
                let by = aggregate.modifier.iter().flat_map(|by| by.labels().labels.clone());
                self.grouped.extend(by);
            }
            Expr::Binary(binary) => {
                let on = binary.modifier.iter().filter_map(|m| m.matching.as_ref());
                self.grouped.extend(on.flat_map(|on| on.labels().labels.clone()));
            }
            _ => {}
        }
        Ok(true)
    }
}

fn at_root(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As JSON, as far as the rules go.
fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(map) => {
            map.iter().map(|(key, value)| (key.as_str().expect("a name").to_owned(), json(value))).collect()
        }
        other => other.as_str().expect("a text").into(),
    }
}

/// Each with what it is called by, and its texts that name labels of its result.
fn alerts() -> Vec<(String, String, Vec<String>)> {
    let text = at_root("deploy/prometheus/rouse.rules.yaml");
    let rules = json(&Yaml::load_from_str(&text).expect("YAML")[0]);
    let mut all = Vec::new();
    for rule in
        rules["groups"].as_array().expect("groups").iter().flat_map(|g| g["rules"].as_array().expect("rules"))
    {
        let text = |of: &Value| of.as_str().expect("a text").to_owned();
        let annotations = rule["annotations"].as_object().expect("annotations");
        all.push((text(&rule["alert"]), text(&rule["expr"]), annotations.values().map(text).collect()));
    }
    all
}

/// The same of the dashboard's panels; Grafana's own words are put in.
fn panels() -> Vec<(String, String, Vec<String>)> {
    let board: Value = serde_json::from_str(&at_root("deploy/grafana/rouse.json")).expect("JSON");
    let mut all = Vec::new();
    for panel in board["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let expr = target["expr"].as_str().expect("a query").replace("$__rate_interval", "5m");
            let legend = target["legendFormat"].as_str().expect("a legend").to_owned();
            all.push((panel["title"].as_str().expect("a title").to_owned(), expr, vec![legend]));
        }
    }
    for variable in board["templating"]["list"].as_array().expect("variables") {
        let query = variable["query"].as_str().expect("a query");
        if let Some((metric, label)) =
            query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')')?.split_once(", "))
        {
            let name = variable["name"].as_str().expect("a name").to_owned();
            all.push((name, format!("sum by ({label}) ({metric})"), Vec::new()));
        }
    }
    all
}

/// Labels that a text puts in: `{{pool}}`, `{{ $labels.pool }}`.
fn named_in(text: &str) -> BTreeSet<String> {
    let named = Regex::new(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}").expect("a pattern");
    named.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

fn wrong(exported: &Exported, (what, query, texts): &(String, String, Vec<String>)) -> Vec<String> {
    match Check::of(exported, query) {
        Err(faults) => faults.into_iter().map(|fault| format!("{what}: {fault}")).collect(),
        Ok(labels) => texts
            .iter()
            .flat_map(|text| named_in(text))
            .filter(|label| !labels.contains(label))
            .map(|label| format!("{what}: its text names the label `{label}`, which is not there"))
            .collect(),
    }
}

/// The tables of the reference: names with their labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let row = Regex::new(r"(?m)^\| `(rouse_[a-z_]+)` \| [a-z]+ \| ([^|]*) \|").expect("a pattern");
    let labels = |cell: &str| {
        let words = cell.split(", ").map(|word| word.trim().trim_matches('`').to_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    let page = at_root("docs/reference/metrics.md");
    row.captures_iter(&page).map(|found| (found[1].to_owned(), labels(&found[2]))).collect()
}

#[test]
fn what_a_master_exports_is_documented_and_what_is_asked_of_it_is_there() {
    let scratch = Scratch::new();
    let go = scratch.folder("out").join("go");
    let config = format!(
        "pools:\n  here: {{local: {{}}, max: 1, price: 0.17 USD/h, budget: 30 USD/day}}\nbuilders:\n  good: {{steps: [{{run: 'until [ -e {} ]; do sleep 0.1; done'}}]}}\n  \
         bad: {{steps: [{{run: 'false'}}]}}\n",
        go.display()
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let good = bench.start("good");
    bench.running(good, "its step to run", |build| !build.steps().is_empty());
    let bad = bench.start("bad");
    wait::until_true("one to run and one to wait", wait::SOON, || {
        let exported = Exported::by(&bench.api);
        let up = exported.sum("rouse_instances", &[("phase", "up")]) == 1.0;
        let waits = exported.sum("rouse_requests_waiting", &[("builder", "bad")]) == 1.0;
        up && waits
            && exported.sum("rouse_demand", &[]) == 1.0
            && exported.sum("rouse_busy_seconds_total", &[]) > 0.0
    });
    std::fs::write(&go, "").expect("it is ours");
    bench.ended(good).must_be("success");
    bench.ended(bad).must_be("failure");
    let exported = wait::until("both to be counted, and their workers gone", wait::SOON, || {
        let exported = Exported::by(&bench.api);
        let ended = exported.sum("rouse_builds_total", &[]) == 2.0;
        (ended && exported.sum("rouse_instances", &[]) == 0.0).then_some(exported)
    });
    is_counted(&exported);
    assert_eq!(exported.metrics(), documented());
    let asked: Vec<_> = alerts().into_iter().chain(panels()).collect();
    assert!(asked.len() > 30, "alerts and panels are read: {}", asked.len());
    let wrong: Vec<String> = asked.iter().flat_map(|query| wrong(&exported, query)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    the_check_can_fail(&exported);
}

/// A build that was good, and one that was bad, each on a worker of its own.
fn is_counted(exported: &Exported) {
    let pool = [("pool", "here")];
    for (name, labels, expected) in [
        ("rouse_builds_total", &[("builder", "good"), ("result", "success")][..], 1.0),
        ("rouse_builds_total", &[("builder", "bad"), ("result", "failure")], 1.0),
        ("rouse_launches_total", &[("pool", "here"), ("outcome", "accepted")], 2.0),
        ("rouse_launches_total", &[], 2.0),
        ("rouse_boot_seconds_count", &pool, 2.0),
        ("rouse_attach_seconds_count", &pool, 2.0),
        ("rouse_queue_seconds_count", &pool, 2.0),
        ("rouse_build_seconds_count", &[("builder", "good")], 1.0),
        (
            "rouse_provider_calls_total",
            &[("provider", "local"), ("call", "launch"), ("outcome", "done")],
            2.0,
        ),
        ("rouse_provider_call_seconds_count", &[("provider", "local"), ("call", "launch")], 2.0),
        ("rouse_pool_max", &pool, 1.0),
        ("rouse_demand", &pool, 0.0),
        ("rouse_cost_per_hour", &pool, 0.0),
        ("rouse_requests_waiting", &[], 0.0),
        ("rouse_fleet_role", &[], 1.0),
        ("rouse_masters", &[("state", "up")], 1.0),
        ("rouse_reaped_orphans_total", &[], 0.0),
        ("rouse_trouble", &[], 0.0),
    ] {
        assert_eq!(exported.sum(name, labels), expected, "{name} {labels:?}");
    }
    let left = exported.sum("rouse_budget_left", &pool);
    assert!((29.0..30.0).contains(&left), "two builds cost little: {left}");
    for name in ["rouse_busy_seconds_total", "rouse_commit_seconds_count", "rouse_attach_seconds_sum"] {
        assert!(exported.sum(name, &[]) > 0.0, "{name}");
    }
}

/// The check of the files is of use only if it finds what is wrong.
fn the_check_can_fail(exported: &Exported) {
    for (query, text) in [
        ("rate(rouse_launched_total[5m])", ""),
        ("sum by (branch) (rouse_demand)", ""),
        ("rouse_demand{poool=\"here\"}", ""),
        ("rouse_launches_total{outcome=\"acepted\"}", ""),
        ("rouse_demand / on (builder) rouse_supply", ""),
        ("sum(rouse_demand", ""),
        ("rouse_demand", "{{ $labels.builder }}"),
    ] {
        let asked = (String::new(), query.to_owned(), vec![text.to_owned()]);
        assert_eq!(wrong(exported, &asked).len(), 1, "{query} {text}: {:?}", wrong(exported, &asked));
    }
}
