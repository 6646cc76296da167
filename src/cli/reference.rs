//! The reference of the command line, written from the parser itself: `docs/reference/cli.md`.

use super::Cli;
use super::error::CliError;
use super::exit::Exit;
use super::output::Out;
use clap::{Arg, Command, CommandFactory};
use std::fmt::Write;

const HEAD: &str = include_str!("reference/head.md");

/// What there is besides the command line.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(crate) enum Page {
    /// What `/metrics` answers
    Metrics,
}

pub(super) fn run(page: Option<Page>, out: &mut Out) -> Result<Exit, CliError> {
    match page {
        None => out.print(&text())?,
        Some(Page::Metrics) => out.print(&crate::metrics::reference())?,
    }
    Ok(Exit::Success)
}

/// The page as it is kept in the docs.
pub(super) fn text() -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\n## Exit codes\n\n| code | meaning |\n|---|---|");
    for (exit, meaning) in Exit::ALL {
        let _ = writeln!(text, "| {} | {meaning} |", exit as u8);
    }
    let mut root = Cli::command();
    root.build();
    let _ = writeln!(text, "\n## Flags of every verb\n");
    for arg in root.get_arguments().filter(|arg| arg.is_global_set() || arg.get_id() == "help") {
        flag(arg, &mut text);
    }
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        verb(command, "rouse", &mut text);
    }
    text
}

fn verb(command: &Command, before: &str, text: &mut String) {
    let name = format!("{before} {}", command.get_name());
    let below: Vec<&Command> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    if !below.is_empty() {
        let _ = writeln!(text, "\n## {name}\n\n{about}");
        for command in below {
            verb(command, &name, text);
        }
        return;
    }
    let level = if before == "rouse" { "##" } else { "###" };
    let mut usage = name.clone();
    for arg in command.get_positionals() {
        let word = value_name(arg);
        let _ = if arg.is_required_set() { write!(usage, " {word}") } else { write!(usage, " [{word}]") };
    }
    let _ = writeln!(text, "\n{level} {name}\n\n{about}\n\n```text\n{usage}\n```\n");
    for arg in command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && arg.get_id() != "help" && !arg.is_hide_set())
    {
        flag(arg, text);
    }
}

fn value_name(arg: &Arg) -> String {
    let names = arg
        .get_value_names()
        .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    names.unwrap_or_else(|| arg.get_id().as_str().to_uppercase())
}

fn flag(arg: &Arg, text: &mut String) {
    let mut names: Vec<String> = Vec::new();
    names.extend(arg.get_short().map(|short| format!("-{short}")));
    names.extend(arg.get_long().map(|long| format!("--{long}")));
    let mut word = names.join(", ");
    if arg.is_positional() {
        word = value_name(arg);
    } else if arg.get_action().takes_values() {
        let _ = write!(word, " {}", value_name(arg));
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let choices: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|v| !v.is_hide_set())
        .map(|v| format!("`{}`", v.get_name()))
        .collect();
    let _ = write!(text, "- `{word}`: {help}");
    if !choices.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " One of {}.", choices.join(", "));
    }
    if let Some(variable) = arg.get_env().and_then(|name| name.to_str()) {
        let _ = write!(text, " Variable: `{variable}`.");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_the_docs_is_this_parsers() {
        let kept = include_str!("../../docs/reference/cli.md");
        assert!(
            kept == super::text(),
            "docs/reference/cli.md is behind; write it anew: rouse reference > docs/reference/cli.md"
        );
    }
}
