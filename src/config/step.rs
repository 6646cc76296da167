//! `steps` of a builder: what is written → what the model's plan holds.

mod action;
mod printed;
mod trigger;

pub use printed::{MAX_STEPS, printed};

use super::builder::{check_env, env_of};
use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::{
    Condition, EnvName, EnvValue, ExitCode, Limit, LogName, Period, RegexText, RelativePath, StepName,
    seconds, seconds_up,
};
use super::place::placed;
use super::tree::Path;
use crate::render::{self, Shell, Sink};
use action::{RawCheckouts, RawDownload, RawProperties, RawRun, RawUpload};
use indexmap::IndexMap;
use rouse_model::BuildResult;
use rouse_model::plan::{Action, FileLog, PlannedStep, Program, Rules, Run};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
pub(crate) use trigger::RawTrigger;

/// The keys of which a step has exactly one.
pub(crate) const ACTIONS: [&str; 7] =
    ["checkout", "run", "properties", "steps_from", "upload", "download", "trigger"];
/// Keys that say how a command is run or read; for steps that run one.
const OF_COMMANDS: [&str; 7] = ["env", "tty", "shell", "silence", "exit", "warnings", "logs"];
/// A command that prints nothing for so long is taken for hung.
const DEFAULT_SILENCE: Period = seconds(20 * 60);
/// Most files of one step that are kept as logs.
pub const MAX_FILE_LOGS: usize = 16;
/// What a step's own output is called.
const STDIO: &str = "stdio";
/// Reads a script from a file; ends with the first command that fails.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-e"];

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Step")]
pub(crate) struct RawStep {
    /// Brings the source of one codebase, or of several, to the worker.
    checkout: Option<RawCheckouts>,
    /// A command: a text is a script for the shell, a list is a program and its arguments.
    run: Option<RawRun>,
    /// Sets properties from a file or from what a command prints.
    properties: Option<RawProperties>,
    /// A command, as in `run`, that prints more steps: a JSON list of steps as they are written here. They run after this one. Secrets, checkouts,
    /// triggers and files of the build's parent are for the configuration alone to name.
    steps_from: Option<RawRun>,
    /// Keeps files of the build.
    upload: Option<RawUpload>,
    /// Brings files that were kept.
    download: Option<RawDownload>,
    /// Starts builds of other builders, of the same sources, and waits for them. A name alone is a builder.
    pub(crate) trigger: Option<RawTrigger>,

    /// What it is called; unique within its builder. Default: made of what it does.
    name: Option<StepName>,
    /// The folder that it works in, below the build's own. Default: `.`.
    dir: Option<RelativePath>,
    /// Environment of this step, before that of the builder.
    #[serde(default)]
    pub(crate) env: IndexMap<EnvName, EnvValue>,
    /// It is skipped where this is not true.
    #[serde(rename = "if")]
    condition: Option<Condition>,
    /// It may take so long; `never` sets no limit. Default: `never`.
    timeout: Option<Limit>,
    /// It may print nothing for so long, nor write anything to its `logs`; `never` sets no limit. Default: `20m`.
    silence: Option<Limit>,
    /// What exit codes mean, beside 0 for success and all others for failure.
    #[serde(default)]
    exit: IndexMap<ExitCode, RawResult>,
    /// Runs it on a terminal, so that programs print in colour. Default: `false`.
    tty: Option<bool>,
    /// The interpreter of a script: a program and its first arguments, to which the script's file is added. Default: `[/bin/sh, -e]`.
    #[schemars(length(min = 1))]
    shell: Option<Vec<String>>,
    /// Runs even where an earlier step has ended the build. Default: `false`.
    always: Option<bool>,
    /// A failure of it ends the build. Default: `true`.
    halt_on_failure: Option<bool>,
    /// A failure of it makes the build a failure. Default: `true`.
    flunk_on_failure: Option<bool>,
    /// Warnings of it make the build a failure. Default: `false`.
    flunk_on_warnings: Option<bool>,
    /// A failure of it gives the build warnings. Default: `false`.
    warn_on_failure: Option<bool>,
    /// Warnings of it give the build warnings. Default: `true`.
    warn_on_warnings: Option<bool>,
    /// `false`: a command of it that may have run is never run again, even where its worker was lost. Default: `true`.
    repeatable: Option<bool>,
    /// A regular expression; a line that matches it gives the step warnings.
    warnings: Option<RegexText>,
    /// Files that the command writes, below `dir`, each followed while it runs and kept as a log of its own, under its name here. At most 16.
    #[serde(default)]
    logs: IndexMap<LogName, RelativePath>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Result")]
enum RawResult {
    /// All is well.
    Success,
    /// Done, with something to look at.
    Warnings,
    /// It did not work.
    Failure,
    /// There was nothing to do.
    Skipped,
    /// Something around it broke.
    Exception,
    /// The whole build is tried again, within its budget.
    Retry,
}

impl From<RawResult> for BuildResult {
    fn from(raw: RawResult) -> Self {
        match raw {
            RawResult::Success => Self::Success,
            RawResult::Warnings => Self::Warnings,
            RawResult::Failure => Self::Failure,
            RawResult::Skipped => Self::Skipped,
            RawResult::Exception => Self::Exception,
            RawResult::Retry => Self::Retry,
        }
    }
}

impl RawStep {
    fn rules(&self) -> Rules {
        let default = Rules::default();
        Rules {
            halt_on_failure: self.halt_on_failure.unwrap_or(default.halt_on_failure),
            flunk_on_failure: self.flunk_on_failure.unwrap_or(default.flunk_on_failure),
            flunk_on_warnings: self.flunk_on_warnings.unwrap_or(default.flunk_on_warnings),
            warn_on_failure: self.warn_on_failure.unwrap_or(default.warn_on_failure),
            warn_on_warnings: self.warn_on_warnings.unwrap_or(default.warn_on_warnings),
            always_run: self.always.unwrap_or(default.always_run),
            exit: self.exit.iter().map(|(code, result)| (i32::from(code.0), (*result).into())).collect(),
        }
    }

    /// A whole step; `None`, with a fault, where it has not exactly one action.
    pub(crate) fn check(self, name: String, cx: &mut Context<'_>, path: &Path) -> Option<PlannedStep> {
        let rules = self.rules();
        let command = self.run.is_some()
            || self.steps_from.is_some()
            || self.properties.as_ref().is_some_and(RawProperties::runs);
        self.check_command(cx, path);
        if self.trigger.is_some() {
            cx.not_with(path, &["dir"], "steps that work in a folder");
        }
        let how = How {
            shell: self.shell,
            tty: self.tty.unwrap_or(false),
            warnings: self.warnings,
            logs: self.logs,
        };
        let files = (self.upload, self.download);
        let action = match (self.checkout, self.run, self.properties, self.steps_from, files, self.trigger) {
            (Some(checkouts), None, None, None, (None, None), None) => {
                Action::Checkout { trees: checkouts.check(cx, &path.join("checkout")) }
            }
            (None, Some(run), None, None, (None, None), None) => Action::Run(how.run(run)),
            (None, None, Some(properties), None, (None, None), None) => {
                properties.check(how, cx, &path.join("properties"))?
            }
            (None, None, None, Some(run), (None, None), None) => Action::StepsFrom { run: how.run(run) },
            (None, None, None, None, (Some(upload), None), None) => upload.check(),
            (None, None, None, None, (None, Some(download)), None) => download.check(),
            (None, None, None, None, (None, None), Some(trigger)) => {
                trigger.check(cx, &path.join("trigger"))?
            }
            _ => {
                cx.one_of(path, &ACTIONS, "action");
                return None;
            }
        };
        let seconds = |limit: Option<Limit>| limit.and_then(|limit| limit.0).map(seconds_up);
        let silence =
            if command { seconds(self.silence.or(Some(Limit(Some(DEFAULT_SILENCE))))) } else { None };
        Some(PlannedStep {
            name,
            action,
            env: env_of(self.env),
            dir: self.dir.map(String::from).filter(|dir| dir != "."),
            condition: self.condition.map(String::from),
            timeout_s: seconds(self.timeout),
            silence_s: silence,
            rules,
            repeatable: self.repeatable.unwrap_or(true),
        })
    }

    /// What belongs to a command, if there is one: its environment, its interpreter, where values stand in its script.
    fn check_command(&self, cx: &mut Context<'_>, path: &Path) {
        check_env(&self.env, cx, path);
        self.check_logs(cx, &path.join("logs"));
        cx.at_least(self.timeout.and_then(|limit| limit.0), seconds(1), &path.join("timeout"));
        cx.at_least(self.silence.and_then(|limit| limit.0), seconds(1), &path.join("silence"));
        let run = self.run.as_ref().map(|run| (run, path.join("run")));
        let steps = self.steps_from.as_ref().map(|run| (run, path.join("steps_from")));
        let output = self.properties.as_ref().and_then(RawProperties::run);
        let output = output.map(|run| (run, path.join("properties").join("output")));
        let shell = self.shell.clone().unwrap_or_else(default_shell);
        match run.or(steps).or(output) {
            None => cx.not_with(path, &OF_COMMANDS, "steps that run a command"),
            Some((RawRun::Argv(_), _)) if self.shell.is_some() => {
                let message = format!("`shell` is for scripts, and {} runs a program itself", cx.place(path));
                cx.push(Fault::new(Code::Together, cx.key(&path.join("shell")), message));
            }
            Some((RawRun::Argv(_), _)) => {}
            Some((RawRun::Script(script), at)) => {
                let sink = Sink::Script(Shell::of_interpreter(&shell));
                let Err(fault) = render::check_template(script, &sink) else { return };
                let span = cx.part(&at, script, Some(&(fault.offset..fault.offset + fault.length)));
                let message = placed(&fault.message, &cx.place(&at));
                cx.push(Fault::new(Code::BadTemplate, span, message).label(fault.help.unwrap_or_default()));
            }
        }
    }

    fn check_logs(&self, cx: &mut Context<'_>, path: &Path) {
        if self.logs.len() > MAX_FILE_LOGS {
            let message = format!(
                "{} has {} files, and a step may have {MAX_FILE_LOGS}",
                cx.place(path),
                self.logs.len()
            );
            cx.push(Fault::new(Code::OutOfRange, cx.key(path), message));
        }
        for (name, file) in &self.logs {
            let at = path.join(name.as_str());
            if name.as_str() == STDIO {
                let message = format!("`{STDIO}` of {} is the step's own output", cx.place(path));
                cx.push(Fault::new(Code::BadName, cx.key(&at), message).label("give the file another name"));
            }
            if file.as_str().contains('*') {
                let message = format!("`{file}` of {} is a pattern", cx.place(path));
                cx.push(Fault::new(Code::BadPath, cx.value(&at), message).label("a log is one file"));
            }
        }
    }

    /// A name made of what it does.
    fn plain_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.to_string();
        }
        if let Some(checkout) = &self.checkout {
            return checkout.plain_name();
        }
        if let Some(run) = &self.run {
            return run.plain_name();
        }
        if let Some(run) = &self.steps_from {
            return run.plain_name();
        }
        if let Some(upload) = &self.upload {
            return upload.plain_name();
        }
        if let Some(download) = &self.download {
            return download.plain_name();
        }
        if let Some(trigger) = &self.trigger {
            return trigger.plain_name();
        }
        "properties".to_owned()
    }
}

fn default_shell() -> Vec<String> {
    DEFAULT_SHELL.map(str::to_owned).to_vec()
}

/// How a command of a step is run.
struct How {
    shell: Option<Vec<String>>,
    tty: bool,
    warnings: Option<RegexText>,
    logs: IndexMap<LogName, RelativePath>,
}

impl How {
    fn run(self, raw: RawRun) -> Run {
        let program = match raw {
            RawRun::Argv(argv) => Program::Argv(argv.into_iter().map(String::from).collect()),
            RawRun::Script(text) => {
                Program::Script { interpreter: self.shell.unwrap_or_else(default_shell), text: text.into() }
            }
        };
        let logs = self.logs.into_iter().map(|(name, path)| FileLog { name: name.into(), path: path.into() });
        Run { program, tty: self.tty, warning_pattern: self.warnings.map(String::from), logs: logs.collect() }
    }
}

/// Names of all steps: those that are written, and for the others what they do, numbered where that is not unique.
pub(crate) fn names(steps: &[RawStep]) -> Vec<String> {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for name in steps.iter().filter_map(|step| step.name.as_ref()) {
        taken.insert(name.to_string(), 1);
    }
    let name = |step: &RawStep| {
        let plain = step.plain_name();
        if step.name.is_some() {
            return plain;
        }
        let mut number = taken.get(&plain).copied().unwrap_or(0);
        loop {
            number += 1;
            let name = if number == 1 { plain.clone() } else { format!("{plain} {number}") };
            if number == 1 || !taken.contains_key(&name) {
                taken.insert(plain, number);
                taken.insert(name.clone(), 1.max(taken.get(&name).copied().unwrap_or(0)));
                return name;
            }
        }
    };
    steps.iter().map(name).collect()
}

/// Names that somebody wrote twice.
pub(crate) fn check_names(steps: &[RawStep], cx: &mut Context<'_>, path: &Path) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        let Some(name) = &step.name else { continue };
        let at = |i: usize| path.join(i).join("name");
        if let Some(first) = seen.insert(name, i) {
            let fault =
                Fault::new(Code::DuplicateName, cx.value(&at(i)), format!("two steps are called `{name}`"));
            let first = cx.value(&at(first));
            cx.push(fault.related(first, "the first"));
        }
    }
}
