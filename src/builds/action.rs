//! From a planned step and what its commands have answered so far to the next command, or to the step's end.
//!
//! It depends on nothing but what is recorded and the plan, so a restarted master comes to the same next command.

use super::checkout::{self, Merge};
use super::mirrored::{self, Next};
use super::outcome::{self, End};
use super::state::State;
use super::{caches, given, output};
use crate::ctx::Ctx;
use crate::render::{self, RenderError, RenderedValue, Scope, Shell};
use crate::secrets::SecretError;
use crate::sources::Submodule;
use crate::transfers::Transfer;
use rouse_agent_protocol as wire;
use rouse_model::build::Step;
use rouse_model::failure::FailureClass;
use rouse_model::plan::{self, Action, CheckoutBy, CheckoutMode, PlannedStep};
use rouse_model::property::Properties;
use rouse_model::{BuildResult, LogId, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The hidden artifact set of files that the master reads itself.
pub(super) const PROPERTIES_SET: &str = ".properties";

/// A command as its row keeps it: without tokens and without secrets' values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    pub action: wire::Action,
    /// Environment variable → secret's name.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
}

/// What a step does next.
#[derive(Debug)]
pub(super) enum Move {
    Command(Box<Stored>),
    End(End),
}

/// Why a step could not go on; each ends the step.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0}")]
    User(String),
    #[error("{0}")]
    Infrastructure(String),
}

/// What a step settles when it begins and must not change on replay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Codebase → revision, for stamps that named only a branch.
    #[serde(default)]
    pub revisions: BTreeMap<String, String>,
    /// Codebase → what its revision was merged into.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub merges: BTreeMap<String, Merge>,
    /// Codebase → the folders that are checked out, where that is not all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub folders: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub submodules: BTreeMap<String, Vec<Submodule>>,
    /// Artifacts to fetch, in order: id and path.
    #[serde(default)]
    pub artifacts: Vec<(i64, String)>,
    /// What the build was stopped as before this step began: such a step, marked `always`, runs to its own end.
    #[serde(default)]
    pub stopped: Option<BuildResult>,
    /// Of a step that restores or keeps a cache.
    #[serde(default)]
    pub cache: Option<caches::Settled>,
    /// Of a step that starts builds: the properties of each buildset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Vec<Properties>>,
}

impl Memory {
    /// What a step remembers.
    pub(super) fn of(step: &Step) -> Self {
        serde_json::from_str(&step.memory).unwrap_or_default()
    }
}

/// The next move of the open step. `outcomes` are those of its commands, in order; `log` is the log of a command that would come now.
pub(super) fn next_move(
    state: &State,
    planned: &PlannedStep,
    step: &Step,
    outcomes: &[wire::Outcome],
    log: LogId,
) -> Result<Move, StepError> {
    let memory = Memory::of(step);
    let scope = &state.scope;
    match &planned.action {
        Action::Run(run) | Action::PropertiesFromOutput { run, .. } | Action::StepsFrom { run } => {
            match outcomes.first() {
                None => Ok(Move::Command(Box::new(run_command(state, planned, run, scope, log)?))),
                Some(outcome) => Ok(Move::End(outcome::of_run(outcome, planned))),
            }
        }
        Action::Checkout { trees } => match mirrored::next(state, trees, &memory, outcomes) {
            Next::Trouble(trouble) => Ok(Move::End(trouble)),
            Next::Part(tree, way, part) => {
                let command = checkout::command(state, planned, (tree, way, part), &memory, log)?;
                Ok(Move::Command(Box::new(command)))
            }
            Next::Done => Ok(Move::End(End::success(checked_out(&memory)))),
        },
        Action::PropertiesFromFile { path } => match outcomes.first() {
            None => {
                let path = render::pattern(path, scope)?.text;
                let set = PROPERTIES_SET.to_owned();
                let transfer = Transfer::Upload { build: state.build.id, step: step.id, set };
                let base = dir_of(state, planned)?;
                Ok(Move::Command(Box::new(upload(&transfer, vec![path], base, wire::MAX_PROPERTIES_BYTES))))
            }
            Some(outcome) => {
                Ok(Move::End(outcome::trouble(outcome).unwrap_or_else(|| End::success("read".into()))))
            }
        },
        Action::Upload { paths, set } => match outcomes.first() {
            None => {
                let paths = paths
                    .iter()
                    .map(|p| Ok(render::pattern(p, scope)?.text))
                    .collect::<Result<_, RenderError>>()?;
                let transfer = Transfer::Upload { build: state.build.id, step: step.id, set: set.clone() };
                Ok(Move::Command(Box::new(upload(
                    &transfer,
                    paths,
                    dir_of(state, planned)?,
                    wire::MAX_UPLOAD_BYTES,
                ))))
            }
            Some(outcome) => Ok(Move::End(outcome::of_transfer(outcome))),
        },
        Action::Download { to, .. } => {
            match (outcomes.last().and_then(outcome::trouble), memory.artifacts.get(outcomes.len())) {
                (Some(trouble), _) => Ok(Move::End(trouble)),
                (None, Some((id, path))) => {
                    let base = match to {
                        Some(to) => join(&dir_of(state, planned)?, &render::path(to, scope)?.text),
                        None => dir_of(state, planned)?,
                    };
                    let transfer = Transfer::Artifact { id: (*id).into() };
                    Ok(Move::Command(Box::new(plain(wire::Action::Download(wire::Download {
                        url_path: transfer.url_path(),
                        token: wire::Hidden::default(),
                        to: join(&base, path),
                        unpack: wire::Unpack::None,
                        sha256: None,
                        clean: false,
                        direct: false,
                    })))))
                }
                (None, None) => Ok(Move::End(End::success(format!("{} files", memory.artifacts.len())))),
            }
        }
        Action::RestoreCache(cache) => {
            Ok(caches::restore(state, cache, &memory.cache.unwrap_or_default(), outcomes, log))
        }
        Action::SaveCache(cache) => {
            Ok(caches::save(state, cache, &memory.cache.unwrap_or_default(), step.id, outcomes))
        }
        // It has no command: `triggers` moves it.
        Action::Trigger(_) => Ok(Move::End(End::success("ok".into()))),
    }
}

pub(super) fn plain(action: wire::Action) -> Stored {
    Stored { action, secrets: BTreeMap::new() }
}

fn upload(transfer: &Transfer, paths: Vec<String>, base_dir: String, max_bytes: u64) -> Stored {
    plain(wire::Action::Upload(wire::Upload {
        paths,
        base_dir,
        url_path: transfer.url_path(),
        token: wire::Hidden::default(),
        max_bytes,
        optional: false,
        direct: false,
        pack: None,
    }))
}

pub(super) fn join(base: &str, path: &str) -> String {
    if base.is_empty() || base == "." {
        path.to_owned()
    } else {
        format!("{}/{path}", base.trim_end_matches('/'))
    }
}

/// The folder that a step works in, relative to the worker's work folder.
pub(super) fn dir_of(state: &State, planned: &PlannedStep) -> Result<String, RenderError> {
    let dir = match &planned.dir {
        Some(dir) => render::path(dir, &state.scope)?.text,
        None => String::new(),
    };
    Ok(join(&build_dir(state), &dir).trim_end_matches('/').to_owned())
}

/// Where a build's files are, below the worker's work folder: a folder for each builder, so that what it keeps from build to build is its own,
/// and apart for each slot, so that builds beside each other do not meet.
pub(super) fn build_dir(state: &State) -> String {
    let build = &state.build;
    match build.slot {
        0 => format!("build/{}", build.builder),
        slot => format!("build-{slot}/{}", build.builder),
    }
}

fn run_command(
    state: &State,
    planned: &PlannedStep,
    run: &plan::Run,
    scope: &Scope,
    log: LogId,
) -> Result<Stored, StepError> {
    let mut env = base_env(state);
    let mut secrets = BTreeMap::new();
    for source in [&state.plan.env, &planned.env] {
        for (name, text) in source {
            match render::environment_value(text, scope)? {
                RenderedValue::Secret(secret) => {
                    env.remove(name);
                    secrets.insert(name.clone(), secret);
                }
                RenderedValue::Text(text) => {
                    secrets.remove(name);
                    env.insert(name.clone(), Some(text.text));
                }
            }
        }
    }
    let program = match &run.program {
        plan::Program::Argv(argv) => {
            let argv = argv
                .iter()
                .map(|a| Ok(render::argument(a, scope)?.text))
                .collect::<Result<_, RenderError>>()?;
            wire::Program::Argv(argv)
        }
        plan::Program::Script { interpreter, text } => {
            let script = render::script(text, &Shell::of_interpreter(interpreter), scope)?;
            env.extend(script.env.into_iter().map(|(k, v)| (k, Some(v))));
            wire::Program::Script { interpreter: interpreter.clone(), text: script.text }
        }
    };
    let cwd = dir_of(state, planned)?;
    Ok(Stored {
        action: wire::Action::Run(wire::Run {
            program,
            env,
            logs: output::files(state, run, &cwd)?,
            cwd,
            tty: run.tty,
            timeout_s: planned.timeout_s.map(seconds),
            silence_s: planned.silence_s.map(seconds),
            kill: wire::Kill::default(),
            stream: wire::StreamId(log.0),
        }),
        secrets,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a timeout is far below 2^52 seconds")]
pub(super) fn seconds(s: u64) -> f64 {
    s as f64
}

/// What every command of a build finds in its environment.
pub(super) fn base_env(state: &State) -> BTreeMap<String, Option<String>> {
    let build = &state.build;
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), Some(value));
    set("CI", "true".into());
    set("ROUSE_BUILD", build.id.to_string());
    set("ROUSE_BUILDER", build.builder.clone());
    set("ROUSE_PROJECT", build.project.clone());
    if let Some(branch) = &state.scope.branch {
        set("ROUSE_BRANCH", branch.clone());
    }
    if let Some(revision) = &state.scope.revision {
        set("ROUSE_REVISION", revision.clone());
    }
    if let Some(parent) = state.traceparent() {
        set("TRACEPARENT", parent);
    }
    env
}

/// Who fetches. The master's mirror is always there; a worker is asked where the user said so, or where history is wanted and the worker has
/// git and the repository is one that it can be expected to reach.
pub(super) fn by_worker(state: &State, tree: &plan::Checkout) -> bool {
    match tree.by {
        CheckoutBy::Worker => true,
        CheckoutBy::Master => false,
        CheckoutBy::Auto if tree.lfs => true,
        CheckoutBy::Auto => {
            let wants_history = tree.mode == CheckoutMode::Incremental || tree.depth.is_some();
            let has_git = mirrored::has_git(&state.worker);
            let public = codebase_url(state, &tree.codebase)
                .is_some_and(|url| url.starts_with("http") || url.starts_with("git://"));
            wants_history && has_git && public && state.build.trust == rouse_model::Trust::Trusted
        }
    }
}

pub(super) fn codebase_url(state: &State, codebase: &str) -> Option<String> {
    let codebases = &state.config.config.codebases;
    codebases.iter().find(|(name, _)| name.as_str() == codebase).map(|(_, c)| c.git.to_string())
}

/// The branch that a tree is of, where its stamp or the plan says one.
pub(super) fn stamp_branch(state: &State, tree: &plan::Checkout) -> Result<Option<String>, RenderError> {
    let stamp = state.stamps.iter().find(|s| s.codebase == tree.codebase);
    match (stamp.and_then(|s| s.branch.clone()), &tree.branch) {
        (Some(branch), _) => Ok(Some(branch)),
        (None, Some(branch)) => Ok(Some(render::text(branch, &state.scope)?.text)),
        (None, None) => Ok(None),
    }
}

fn checked_out(memory: &Memory) -> String {
    let short = |revision: &str| revision.chars().take(7).collect::<String>();
    let one = |(codebase, revision): (&String, &String)| match memory.merges.get(codebase) {
        Some(merge) => format!("{} merged into {} {}", short(revision), merge.branch, short(&merge.onto)),
        None => short(revision),
    };
    let mut all: Vec<String> = memory.revisions.iter().map(one).collect();
    all.sort();
    all.join(", ")
}

/// The message for the agent: tokens derived, secrets fetched. Their values are masked wherever they come out.
pub(super) async fn for_agent(
    ctx: &Ctx,
    secrets: &crate::secrets::Secrets,
    state: &mut State,
    command: &rouse_model::build::Command,
    stored: Stored,
) -> Result<wire::Command, StepError> {
    let mut action = stored.action;
    let epoch = ctx.store.facts().store_epoch;
    let (values, masks) = given::give(secrets, state, &stored.secrets).await?;
    match &mut action {
        wire::Action::Run(run) => {
            let values = values.into_iter().map(|(name, value)| (name, Some(value.reveal().to_owned())));
            run.env.extend(values);
        }
        wire::Action::Upload(upload) => {
            admit(ctx, state, &mut upload.url_path, &mut upload.token);
            upload.direct = ctx.objects.is_direct();
        }
        wire::Action::Download(download) => {
            admit(ctx, state, &mut download.url_path, &mut download.token);
            download.direct = ctx.objects.is_direct() && download.unpack != wire::Unpack::Tar;
        }
        wire::Action::Paths(_) => {}
    }
    Ok(wire::Command {
        id: wire::CommandId(command.id.0),
        epoch,
        build: state.build.id.0,
        step: command.step.0,
        seq: command.seq,
        action,
        masks: masks.into_iter().map(wire::Hidden::from).collect(),
    })
}

/// The token of a transfer, and its path as this worker's.
fn admit(ctx: &Ctx, state: &State, url_path: &mut String, token: &mut wire::Hidden) {
    let (worker, epoch) = (state.worker.id, ctx.store.facts().store_epoch);
    *token = token_of(ctx, epoch, worker, url_path);
    *url_path = Transfer::path_of(worker, url_path);
}

fn token_of(ctx: &Ctx, epoch: i64, worker: WorkerId, url_path: &str) -> wire::Hidden {
    let path = url_path.strip_prefix("/files/").unwrap_or(url_path);
    // An upload's path reads back only with a file's name below it.
    let with_file = format!("{path}/x");
    let parsed = Transfer::parse(path).or_else(|| Transfer::parse(&with_file));
    match parsed {
        Some((transfer, _)) if transfer.url_path() == url_path => {
            transfer.token(&ctx.key, epoch, worker).into()
        }
        _ => wire::Hidden::default(),
    }
}

/// A step that could not go on, as its end.
pub(super) fn end_of(error: &StepError) -> End {
    match error {
        StepError::Render(_) | StepError::User(_) => End {
            result: BuildResult::Failure,
            class: Some(FailureClass::User),
            summary: crate::supervisor::chain(error),
        },
        // A server of secrets that is away comes back.
        StepError::Secret(secret) if secret.is_away() => End {
            result: BuildResult::Retry,
            class: Some(FailureClass::Master),
            summary: crate::supervisor::chain(error),
        },
        // Who may not see a secret is told so in red. One that cannot be had is the installation's affair, and nothing that time mends.
        StepError::Secret(secret) => End {
            result: if secret.is_refusal() { BuildResult::Failure } else { BuildResult::Exception },
            class: Some(if secret.is_refusal() { FailureClass::User } else { FailureClass::Auth }),
            summary: crate::supervisor::chain(error),
        },
        StepError::Infrastructure(_) => End {
            result: BuildResult::Retry,
            class: Some(FailureClass::Master),
            summary: crate::supervisor::chain(error),
        },
    }
}
