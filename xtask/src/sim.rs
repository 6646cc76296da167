//! `cargo xtask sim`: the fleet's simulation over many seeds (ADR 0016), in the profile of the tests, whose objects are there.

use anyhow::{Result, bail};

use crate::process::{self, Interrupt};
use crate::workspace::Workspace;

const TEST: &str = "fleet::tests::whatever_goes_wrong_nothing_is_lost_and_nothing_is_left";

#[derive(clap::Args)]
pub struct Arguments {
    /// How many seeds, from one that no earlier run had
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Only this one, as a run before has named it
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
}

pub fn run(workspace: &Workspace, arguments: &Arguments, interrupt: &Interrupt) -> Result<bool> {
    if arguments.seeds == 0 {
        bail!("--seeds 0 shows nothing; give 1 or more");
    }
    let mut command = workspace.cargo();
    // One package alone would be built with other features, and so would all that it is made of.
    command.args(["test", "--quiet", "--locked", "--workspace", "--exclude", "rouse-agent", "--lib", "--"]);
    command.args(["--exact", "--nocapture", TEST]);
    command.env_remove("ROUSE_TEST_SOAK").env_remove("ROUSE_TEST_SEED");
    match arguments.seed {
        Some(seed) => command.env("ROUSE_TEST_SEED", seed.to_string()),
        None => command.env("ROUSE_TEST_SEEDS", arguments.seeds.to_string()),
    };
    Ok(process::run(&mut command, interrupt)?.success())
}
