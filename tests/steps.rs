//! Steps and what they mean for their build: commands, conditions, properties, rules, limits, files, sources.

mod ends;
mod file_logs;
mod files;
mod printed;
mod selections;
mod sources;
mod text;

use crate::harness::Bench;

/// Local workers that are used again: many short builds, few launches.
const POOL: &str = "pools:\n  here: {local: {}, max: 3, accepts: any, reuse: {builds: 100, idle: 5m}}\n";

fn bench(builders: &str) -> Bench {
    Bench::new(&format!("{POOL}builders:\n{builders}"))
}
