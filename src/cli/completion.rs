//! `rouse completion`.

use super::Cli;
use super::error::CliError;
use super::exit::Exit;
use super::output::Out;
use clap::CommandFactory;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

pub(super) fn run(args: &Args, out: &mut Out) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rouse", &mut script);
    out.raw(&script)?;
    Ok(Exit::Success)
}
