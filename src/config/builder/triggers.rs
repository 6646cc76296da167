//! What `trigger` steps name, once all builders are known.

use super::{BuilderConfig, RawBuilder};
use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{BuilderName, family};
use crate::config::rings::rings;
use crate::config::step::RawTrigger;
use crate::config::tree::Path;
use indexmap::IndexMap;
use rouse_model::plan::Action;
use std::collections::HashSet;

type Raws = IndexMap<BuilderName, RawBuilder>;
type Builders = IndexMap<BuilderName, BuilderConfig>;

/// Checks the builders that triggers name, and puts those of a matrix in the place of their entry.
pub(crate) fn settle(raws: &Raws, builders: &mut Builders, templates: &[BuilderName], cx: &mut Context<'_>) {
    check(raws, builders, templates, cx);
    check_rings(raws, templates, cx);
    let all: Vec<String> = builders.keys().map(ToString::to_string).collect();
    for step in builders.values_mut().flat_map(|builder| &mut builder.plan.steps) {
        if let Action::Trigger(trigger) = &mut step.action {
            let entries = std::mem::take(&mut trigger.builders);
            let of_entry = |entry| all.iter().filter(move |name| family(name) == entry).cloned();
            trigger.builders = entries.iter().flat_map(|entry| of_entry(entry.as_str())).collect();
        }
    }
}

/// A builder's triggers, with where they stand: in its own steps or in those that it inherits.
fn triggers<'a>(name: &'a BuilderName, raws: &'a Raws) -> Vec<(Path, &'a RawTrigger)> {
    let mut at = raws.get_key_value(name);
    for _ in 0..=raws.len() {
        let Some((name, raw)) = at else { break };
        if let Some(steps) = &raw.steps {
            let path = Path::of(["builders", name, "steps"]);
            let triggers = steps.iter().enumerate().filter_map(|(i, step)| {
                step.trigger.as_ref().map(|trigger| (path.join(i).join("trigger"), trigger))
            });
            return triggers.collect();
        }
        at = raw.like.as_ref().and_then(|like| raws.get_key_value(like));
    }
    Vec::new()
}

fn check(raws: &Raws, builders: &Builders, templates: &[BuilderName], cx: &mut Context<'_>) {
    let mut told = HashSet::new();
    for name in raws.keys() {
        let Some((_, builder)) = builders.iter().find(|(each, _)| family(each) == name.as_str()) else {
            continue;
        };
        for (path, trigger) in triggers(name, raws) {
            for (at, named) in trigger.named(&path) {
                if templates.contains(named) && told.insert(at.clone()) {
                    let message = format!("`{named}` is a template and cannot be triggered");
                    let fault = Fault::new(Code::NotRunnable, cx.value(&at), message);
                    cx.push(fault.note("name a builder that is `like` it"));
                }
                let target = builders.iter().find(|(each, _)| family(each) == named.as_str());
                let Some((_, target)) = target.filter(|(_, target)| target.project != builder.project) else {
                    continue;
                };
                let message = format!("builder `{name}` triggers `{named}` of another project");
                let label =
                    format!("`{name}` is of `{}`, `{named}` of `{}`", builder.project, target.project);
                let fault = Fault::new(Code::Together, cx.value(&at), message).label(label);
                cx.push(fault.note("what a build hands on stays within its project"));
            }
        }
    }
}

/// Builders that wait for one another in a ring would never end.
fn check_rings(raws: &Raws, templates: &[BuilderName], cx: &mut Context<'_>) {
    let waited = |name| -> Vec<&BuilderName> {
        let waiting = triggers(name, raws).into_iter().filter(|(_, trigger)| trigger.waits());
        let named = waiting.flat_map(|(_, trigger)| {
            trigger.named(&Path::default()).into_iter().map(|(_, named)| named).collect::<Vec<_>>()
        });
        named.filter_map(|named| raws.get_key_value(named).map(|(name, _)| name)).collect()
    };
    let edges = raws.keys().filter(|name| !templates.contains(name)).map(|name| (name, waited(name)));
    for (start, ring) in rings(&edges.collect()) {
        let at = triggers(start, raws).into_iter().find(|(_, trigger)| trigger.waits());
        let span = at.map_or_else(|| cx.key(&Path::of(["builders", start])), |(path, _)| cx.value(&path));
        let message = format!("builders wait for builds of one another in a ring: {ring}");
        cx.push(Fault::new(Code::Cycle, span, message).note("`wait: false` starts builds without waiting"));
    }
}
