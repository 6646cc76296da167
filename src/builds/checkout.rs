//! Checkouts: what one settles when it begins, and the commands by which each of its parts comes.
//!
//! Which revisions are merged, which folders and which submodules belong to it: all that is settled by the master, from its own mirrors, so that
//! a checkout by the worker and one by the master are of the same files, and a restarted master comes to the same commands.

mod settle;

use super::action::{self, Memory, StepError, Stored, base_env, dir_of, join, plain, seconds};
use super::mirrored::{self, Way};
use super::state::State;
use crate::render;
use crate::sources::{Opened, Selection, Submodule};
use crate::transfers::Transfer;
use rouse_agent_protocol as wire;
use rouse_model::LogId;
use rouse_model::plan::{self, CheckoutMode, PlannedStep};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) use settle::settle;

/// What was merged into what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merge {
    pub branch: String,
    /// Its revision, the same for all builds of a buildset.
    pub onto: String,
    /// The merge itself.
    pub commit: String,
}

/// A part of a checkout that comes by a command of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Tree,
    /// Where the worker fetched both revisions: what it lacks of their merge.
    MergePack,
    Merge,
    Submodule(&'a Submodule),
}

/// The parts of one tree that come after the tree itself.
pub(super) fn after_tree<'a>(
    tree: &plan::Checkout,
    way: Way,
    memory: &'a Memory,
) -> impl Iterator<Item = Part<'a>> + use<'a> {
    let merged = way == Way::Fetched && memory.merges.contains_key(&tree.codebase);
    let merge = merged.then_some([Part::MergePack, Part::Merge]).into_iter().flatten();
    merge.chain(memory.submodules.get(&tree.codebase).into_iter().flatten().map(Part::Submodule))
}

/// The command by which a part comes.
pub(super) fn command(
    state: &State,
    planned: &PlannedStep,
    (tree, way, part): (&plan::Checkout, Way, Part<'_>),
    memory: &Memory,
    log: LogId,
) -> Result<Stored, StepError> {
    let scope = &state.scope;
    let codebase = tree.codebase.clone();
    let revision = memory
        .revisions
        .get(&codebase)
        .cloned()
        .ok_or_else(|| StepError::Infrastructure(format!("no revision of `{codebase}` was settled")))?;
    let dir = match &tree.dir {
        Some(dir) => join(&dir_of(state, planned)?, &render::path(dir, scope)?.text),
        None => dir_of(state, planned)?,
    };
    let merge = memory.merges.get(&codebase);
    match (part, way) {
        (Part::MergePack, _) => {
            let onto = merge.map(|merge| merge.onto.clone()).unwrap_or_default();
            let transfer = Transfer::Merge { codebase, revision, onto };
            Ok(download(&transfer, join(&dir, MERGE_PACK), false))
        }
        (Part::Tree, Way::Shipped) => {
            let folders = memory.folders.get(&codebase).cloned().unwrap_or_default();
            let onto = merge.map(|merge| merge.onto.clone());
            let selection = Selection { onto, folders, submodule: None };
            Ok(download(&Transfer::Tree { codebase, revision, selection }, dir, true))
        }
        (Part::Submodule(submodule), Way::Shipped | Way::TreeOfMirror) => {
            let keyed = settle::is_keyed(state);
            let opened = Opened { url: submodule.url.clone(), keyed };
            let selection = Selection { submodule: Some(opened), ..Selection::default() };
            let transfer = Transfer::Tree { codebase, revision: submodule.revision.clone(), selection };
            Ok(download(&transfer, join(&dir, &submodule.path), true))
        }
        (Part::Tree | Part::Merge | Part::Submodule(_), _) => {
            script(state, planned, Script { tree, way, part, memory, dir, revision }, log)
        }
    }
}

fn download(transfer: &Transfer, to: String, tree: bool) -> Stored {
    plain(wire::Action::Download(wire::Download {
        url_path: transfer.url_path(),
        token: wire::Hidden::default(),
        to,
        unpack: if tree { wire::Unpack::Tar } else { wire::Unpack::None },
        sha256: None,
        // What is left of another revision would be built too.
        clean: tree,
        direct: false,
    }))
}

/// What the worker's own git is to do.
struct Script<'a> {
    tree: &'a plan::Checkout,
    way: Way,
    part: Part<'a>,
    memory: &'a Memory,
    dir: String,
    revision: String,
}

fn script(state: &State, planned: &PlannedStep, wanted: Script<'_>, log: LogId) -> Result<Stored, StepError> {
    let Script { tree, way, part, memory, dir, revision } = wanted;
    let codebase = &tree.codebase;
    let mut env: BTreeMap<String, Option<String>> = base_env(state);
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), Some(value));
    set("GIT_TERMINAL_PROMPT", "0".into());
    set("GIT_LFS_SKIP_SMUDGE", "1".into());
    set("ROUSE_DEPTH", tree.depth.map(|d| format!("--depth={d}")).unwrap_or_default());
    let merge = memory.merges.get(codebase);
    let empty = if tree.mode == CheckoutMode::Full { EMPTY } else { "" };
    let (cwd, text) = match part {
        Part::Submodule(submodule) => {
            set("ROUSE_SUBMODULE", submodule.name.clone());
            set("ROUSE_URL", submodule.url.clone());
            set("ROUSE_CHECKOUT", submodule.revision.clone());
            set("GIT_ALLOW_PROTOCOL", "http:https:ssh:git".into());
            set("ROUSE_LFS", lfs(&submodule.url, tree.lfs));
            (join(&dir, &submodule.path), format!("{OF_SUBMODULE}{FETCH}{LFS}{CHECKOUT}"))
        }
        Part::Merge => {
            set("ROUSE_CHECKOUT", merge.map(|merge| merge.commit.clone()).unwrap_or_default());
            set("ROUSE_LFS", lfs(&codebase_url(state, codebase)?, tree.lfs));
            (dir, format!("{UNPACK}{LFS}{CHECKOUT}"))
        }
        Part::Tree | Part::MergePack => {
            let url = codebase_url(state, codebase)?;
            // Those of the merge are fetched with the merge.
            set("ROUSE_LFS", lfs(&url, tree.lfs && merge.is_none()));
            set("ROUSE_URL", url);
            set("ROUSE_CHECKOUT", revision);
            set("ROUSE_FETCH", action::stamp_branch(state, tree)?.unwrap_or_default());
            set("ROUSE_FOLDERS", memory.folders.get(codebase).map(|all| all.join("\n")).unwrap_or_default());
            if let Some(merge) = merge {
                set("ROUSE_ONTO", merge.onto.clone());
                set("ROUSE_ONTO_BRANCH", merge.branch.clone());
            }
            let mirror = mirrored::of_worker(&state.worker, codebase);
            if mirror {
                set("ROUSE_MIRROR", mirrored::seen_from(&dir, codebase));
            }
            let fetch = format!("{FETCH}{FETCH_ONTO}{FOLDERS}{LFS}{CHECKOUT}");
            let text = match (way, mirror) {
                (Way::TreeOfMirror, _) => format!("{empty}{}", mirrored::TREE),
                (_, true) => format!("{GIT}{empty}{}{fetch}", mirrored::BEFORE_FETCH),
                (_, false) => format!("{GIT}{empty}{fetch}"),
            };
            (dir, text)
        }
    };
    Ok(plain(wire::Action::Run(wire::Run {
        program: wire::Program::Script { interpreter: vec!["sh".into()], text },
        env,
        cwd,
        tty: false,
        timeout_s: planned.timeout_s.map(seconds),
        silence_s: planned.silence_s.map(seconds),
        kill: wire::Kill::default(),
        stream: wire::StreamId(log.0),
        logs: Vec::new(),
    })))
}

fn codebase_url(state: &State, codebase: &str) -> Result<String, StepError> {
    action::codebase_url(state, codebase)
        .ok_or_else(|| StepError::User(format!("codebase `{codebase}` is not in the configuration")))
}

/// Where the large files of a repository are, a submodule's too, by the convention that all servers keep; empty where they are not asked for. The
/// repository's own `.lfsconfig` has no say in it.
fn lfs(url: &str, asked: bool) -> String {
    let plain = url.trim_end_matches('/');
    match (asked, url.starts_with("http")) {
        (false, _) => String::new(),
        (true, true) => format!("{}.git/info/lfs", plain.strip_suffix(".git").unwrap_or(plain)),
        (true, false) => url.to_owned(),
    }
}

const EMPTY: &str = "find . -mindepth 1 -maxdepth 1 -exec rm -rf {} +\n";

/// Before anything that was there goes.
const GIT: &str = r#"if ! command -v git >/dev/null; then
    echo 'error: there is no git on the worker' >&2
    exit 76
fi
"#;

/// Below the folder of a checkout.
const MERGE_PACK: &str = ".git/rouse-merge.pack";

/// Where there is no repository yet, git means the one around it, which is told that this is no stranger. Its server cannot send git elsewhere.
const OF_SUBMODULE: &str = r#"set -e
[ -e .git ] || git config "submodule.$ROUSE_SUBMODULE.url" "$ROUSE_URL"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.followRedirects GIT_CONFIG_VALUE_0=false
"#;

/// Everything that varies comes in by the environment. The revision is fetched by its name where the server allows that, else its branch is.
const FETCH: &str = r#"set -e
git init -q .
git config advice.detachedHead false
bring() {
    git cat-file -e "$1^{commit}" 2>/dev/null ||
        git fetch -q --no-tags --force $ROUSE_DEPTH "$ROUSE_URL" "$1" 2>/dev/null ||
        git fetch --no-tags --force "$ROUSE_URL" ${2:+"refs/heads/$2"} || exit 75
}
bring "$ROUSE_CHECKOUT" "$ROUSE_FETCH"
"#;

const FETCH_ONTO: &str = r#"if [ -n "$ROUSE_ONTO" ]; then bring "$ROUSE_ONTO" "$ROUSE_ONTO_BRANCH"; fi
"#;

const FOLDERS: &str = r#"if [ -n "$ROUSE_FOLDERS" ]; then
    printf '%s\n' "$ROUSE_FOLDERS" | git sparse-checkout set --cone --stdin
elif [ "$(git config --get core.sparseCheckout)" = true ]; then
    git sparse-checkout disable
fi
"#;

/// What was checked out as pointers before is written anew.
const LFS: &str = r#"if [ -n "$ROUSE_LFS" ]; then
    if ! git lfs version >/dev/null 2>&1; then
        echo 'error: `lfs: true` needs git-lfs on the worker, and there is none' >&2
        exit 77
    fi
    unset GIT_LFS_SKIP_SMUDGE
    git lfs install --local --skip-repo --force >/dev/null
    if [ "$(git config --local --get lfs.url)" != "$ROUSE_LFS" ]; then
        git config lfs.url "$ROUSE_LFS"
        rm -f .git/index
    fi
fi
"#;

const UNPACK: &str = r#"set -e
git unpack-objects -q < .git/rouse-merge.pack
rm .git/rouse-merge.pack
"#;

const CHECKOUT: &str = r#"git checkout -q --force --detach "$ROUSE_CHECKOUT" || exit ${ROUSE_LFS:+75}
git clean -q -ffd
git log -1 --oneline
"#;
