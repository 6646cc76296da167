//! Things that wait for one another, or follow one another, and come back to where they began.

use indexmap::IndexMap;
use std::fmt::Display;
use std::hash::Hash;

/// The rings, each once: where it begins in the order of the map, and its way in words, `a → b → a`.
pub(super) fn rings<'a, N: Hash + Eq + Display>(edges: &IndexMap<&'a N, Vec<&'a N>>) -> Vec<(&'a N, String)> {
    let mut done: Vec<&N> = Vec::new();
    let mut found = Vec::new();
    for start in edges.keys().copied() {
        let Some(ring) = ring_from(start, edges).filter(|_| !done.contains(&start)) else { continue };
        let names: Vec<_> = ring.iter().chain([&start]).map(|name| format!("`{name}`")).collect();
        found.push((start, names.join(" → ")));
        done.extend(ring);
    }
    found
}

/// The way from `start` back to itself, if there is one.
fn ring_from<'a, N: Hash + Eq>(start: &'a N, edges: &IndexMap<&'a N, Vec<&'a N>>) -> Option<Vec<&'a N>> {
    let mut todo = vec![vec![start]];
    let mut seen = Vec::new();
    while let Some(way) = todo.pop() {
        let last = *way.last()?;
        for next in edges.get(last).into_iter().flatten().copied() {
            if next == start {
                return Some(way);
            }
            if !seen.contains(&next) {
                seen.push(next);
                todo.push([way.clone(), vec![next]].concat());
            }
        }
    }
    None
}
