//! `like`: a builder takes what it does not say itself from another, which may take it from a third.

use super::{Origins, RawBuilder};
use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::BuilderName;
use crate::config::tree::Path;
use indexmap::IndexMap;

/// Resolves every builder. Those in a cycle, and those like what is not there, are left out with a fault.
pub(crate) fn inherit(
    builders: &IndexMap<BuilderName, RawBuilder>,
    cx: &mut Context<'_>,
) -> Vec<(BuilderName, RawBuilder, Origins)> {
    report_cycles(builders, cx);
    builders
        .iter()
        .filter_map(|(name, _)| {
            let line = line_of(name, builders)?;
            let (builder, origins) = fold(&line);
            Some((name.clone(), builder, origins))
        })
        .collect()
}

/// The builder and its ancestors, nearest first; `None` where the line does not end.
fn line_of<'a>(
    name: &'a BuilderName,
    builders: &'a IndexMap<BuilderName, RawBuilder>,
) -> Option<Vec<(&'a BuilderName, &'a RawBuilder)>> {
    let mut line = vec![builders.get_key_value(name)?];
    while let Some(parent) = line.last().and_then(|(_, builder)| builder.like.as_ref()) {
        if line.len() > builders.len() {
            return None;
        }
        line.push(builders.get_key_value(parent)?);
    }
    Some(line)
}

fn report_cycles(builders: &IndexMap<BuilderName, RawBuilder>, cx: &mut Context<'_>) {
    let mut reported: Vec<&BuilderName> = Vec::new();
    for (name, builder) in builders {
        let Some(like) = &builder.like else { continue };
        if !cx.refer("builders", like, &Path::of(["builders", name, "like"])) || reported.contains(&name) {
            continue;
        }
        let mut ring = vec![name];
        let mut next = Some(like);
        while let Some(at) = next.filter(|_| ring.len() <= builders.len()) {
            if at == name {
                let names: Vec<_> = ring.iter().chain([&name]).map(|n| format!("`{n}`")).collect();
                let span = cx.value(&Path::of(["builders", name, "like"]));
                let message = format!("builders are like one another in a ring: {}", names.join(" → "));
                cx.push(Fault::new(Code::Cycle, span, message));
                reported.extend(ring);
                break;
            }
            ring.push(at);
            next = builders.get(at).and_then(|builder| builder.like.as_ref());
        }
    }
}

/// The nearest that says something wins.
fn fold(line: &[(&BuilderName, &RawBuilder)]) -> (RawBuilder, Origins) {
    let mut whole = RawBuilder { template: line[0].1.template, ..RawBuilder::default() };
    let mut origins = Origins::default();
    for (name, builder) in line {
        let path = Path::of(["builders", name]);
        origins.line.push(path.clone());
        if whole.steps.is_none() && builder.steps.is_some() {
            whole.steps.clone_from(&builder.steps);
            origins.steps = Some(path.clone());
        }
        for (key, value) in &builder.env {
            if !whole.env.contains_key(key) {
                whole.env.insert(key.clone(), value.clone());
                origins.env.insert(key.as_str().to_owned(), path.join("env"));
            }
        }
        for (key, value) in &builder.properties {
            whole.properties.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (key, share) in &builder.locks {
            whole.locks.entry(key.clone()).or_insert(*share);
        }
        for (key, cache) in &builder.caches {
            whole.caches.entry(key.clone()).or_insert_with(|| cache.clone());
        }
        whole.matrix = whole.matrix.or_else(|| builder.matrix.clone());
        whole.project = whole.project.or_else(|| builder.project.clone());
        whole.pool = whole.pool.or_else(|| builder.pool.clone());
        whole.supersede = whole.supersede.or(builder.supersede);
        whole.per = whole.per.or(builder.per);
        whole.approval = whole.approval.or(builder.approval);
        whole.on_lost = whole.on_lost.or(builder.on_lost);
        whole.retries = whole.retries.or(builder.retries);
        whole.timeout = whole.timeout.or(builder.timeout);
    }
    (whole, origins)
}
