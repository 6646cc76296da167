//! Checkouts from the mirror that a worker's host has of a codebase, where it has one: what is there is not fetched again.
//!
//! A worker's launch says which mirrors it was given, so a restarted master comes to the same commands. A mirror may lack the revision, or be
//! broken: then the source comes as it does without one.

use super::action::{Memory, by_worker};
use super::checkout::{self, Part};
use super::outcome::{self, End};
use super::state::State;
use crate::config::MirrorPolicy;
use crate::ctx::Ctx;
use rouse_agent_protocol::{self as wire, Outcome, OutcomeKind};
use rouse_contract::LaunchSpec;
use rouse_contract::shelf::SHELVES;
use rouse_model::Trust;
use rouse_model::plan::{Checkout, CheckoutBy, CheckoutMode};
use rouse_model::worker::Worker;
use std::path::{Component, Path};

/// How one tree comes to the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The worker's git fetches it, with what the mirror has already.
    Fetched,
    /// The worker's git writes the files out of the mirror, which leaves what the master would have shipped.
    TreeOfMirror,
    /// The master ships the files.
    Shipped,
}

/// Where a checkout is.
#[derive(Debug)]
pub(super) enum Next<'a> {
    Part(&'a Checkout, Way, Part<'a>),
    Trouble(End),
    Done,
}

/// What comes next, after what the commands so far have answered.
pub(super) fn next<'a>(
    state: &State,
    trees: &'a [Checkout],
    memory: &'a Memory,
    outcomes: &[Outcome],
) -> Next<'a> {
    let mut said = outcomes.iter();
    for tree in trees {
        let way = if by_worker(state, tree) { Way::Fetched } else { Way::Shipped };
        let mut parts = vec![Part::Tree];
        parts.extend(checkout::after_tree(tree, way, memory));
        if is_tried(state, tree) {
            match said.next() {
                None => return Next::Part(tree, Way::TreeOfMirror, Part::Tree),
                Some(outcome) => match (&outcome.kind, outcome::trouble(outcome)) {
                    (_, None) => drop(parts.remove(0)),
                    // It is not there, or git cannot do it here.
                    (OutcomeKind::Exited { .. } | OutcomeKind::CouldNotStart { .. }, _) => {}
                    (_, Some(trouble)) => return Next::Trouble(trouble),
                },
            }
        }
        for part in parts {
            match said.next() {
                None => return Next::Part(tree, way, part),
                Some(outcome) => {
                    if let Some(trouble) = outcome::of_checkout(outcome) {
                        return Next::Trouble(trouble);
                    }
                }
            }
        }
    }
    Next::Done
}

fn is_tried(state: &State, tree: &Checkout) -> bool {
    !by_worker(state, tree)
        && tree.by == CheckoutBy::Auto
        && tree.mode == CheckoutMode::Full
        && tree.merge.is_none()
        && tree.folders.is_empty()
        && has_git(&state.worker)
        && of_worker(&state.worker, &tree.codebase)
}

/// Whether a worker has what a checkout by itself needs.
pub(super) fn has_git(worker: &Worker) -> bool {
    let facts: wire::Facts =
        worker.facts.as_deref().and_then(|facts| serde_json::from_str(facts).ok()).unwrap_or_default();
    ["git", "sh"].iter().all(|tool| facts.tools.iter().any(|have| have == tool))
}

/// Whether a worker was given a mirror of a codebase.
pub(super) fn of_worker(worker: &Worker, codebase: &str) -> bool {
    let spec = serde_json::from_str::<LaunchSpec>(&worker.spec);
    spec.is_ok_and(|spec| spec.shelves.iter().any(|shelf| shelf.at == codebase))
}

/// Where that mirror is, from a folder of the worker's work folder, which it lies beside.
pub(super) fn seen_from(dir: &str, codebase: &str) -> String {
    let mut up = 1_usize;
    for part in Path::new(dir).components() {
        match part {
            Component::Normal(_) => up += 1,
            Component::ParentDir => up = up.saturating_sub(1),
            _ => {}
        }
    }
    format!("{}{SHELVES}/{codebase}", "../".repeat(up))
}

/// Says that a mirror on the worker's host would be of use to others that build as this one does.
pub(super) fn wish(ctx: &Ctx, state: &State, tree: &Checkout, revision: &str) {
    let codebases = &state.config.config.codebases;
    let Some((_, codebase)) = codebases.iter().find(|(name, _)| name.as_str() == tree.codebase) else {
        return;
    };
    let may_read = state.build.trust == Trust::Trusted || codebase.is_public();
    let own = codebase.project.as_str() == state.build.project;
    if may_read
        && own
        && codebase.mirror != MirrorPolicy::Never
        && tree.by != CheckoutBy::Master
        && has_git(&state.worker)
    {
        ctx.mirrors.say(&state.worker.provider, &tree.codebase, revision);
    }
}

/// Makes what the mirror has the repository's own, as far as git is concerned, and tells the server of it, so that only the rest comes.
pub(super) const BEFORE_FETCH: &str = r#"set -e
git init -q .
mkdir -p .git/objects/info
for ok in "$ROUSE_MIRROR"/*/ok; do
    if [ -e "$ok" ]; then (cd "${ok%/ok}/objects" && pwd); fi
done > .git/objects/info/alternates
if git cat-file -e "$ROUSE_CHECKOUT^{commit}" 2>/dev/null; then
    if [ -s .git/objects/info/alternates ]; then echo "from this host's mirror"; fi
else
    for ok in "$ROUSE_MIRROR"/*/ok; do
        if [ -e "$ok" ]; then head -n 50 "$ok"; fi
    done | sort -u | sed 's,.*,update refs/rouse/& &,' | git update-ref --stdin 2>/dev/null || true
fi
"#;

/// Writes the files of a revision out of the mirror, as a packed tree has them: no filters, no settings of the image, no repository beside them.
pub(super) const TREE: &str = r#"set -e
git=$PWD/.rouse-checkout
trap 'rm -rf "$git"' EXIT
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1
git init -q --bare --template= "$git"
mkdir -p "$git/objects/info" "$git/info"
for ok in "$ROUSE_MIRROR"/*/ok; do
    if [ -e "$ok" ]; then (cd "${ok%/ok}/objects" && pwd); fi
done > "$git/objects/info/alternates"
echo '* -export-subst -export-ignore -filter' > "$git/info/attributes"
export GIT_DIR="$git" GIT_WORK_TREE="$PWD" GIT_INDEX_FILE="$git/index"
git cat-file -e "$ROUSE_CHECKOUT^{commit}" 2>/dev/null
git config core.bare false
git read-tree "$ROUSE_CHECKOUT"
git -c checkout.workers=0 checkout-index -q -f -a
echo "from this host's mirror"
"#;

#[cfg(test)]
mod tests {
    use super::seen_from;

    #[test]
    fn a_mirror_lies_beside_the_work_folder() {
        assert_eq!(seen_from("", "app"), "../mirrors/app");
        assert_eq!(seen_from("build/unit", "app"), "../../../mirrors/app");
        assert_eq!(seen_from("build/unit/a/../b/.", "app"), "../../../../mirrors/app");
    }
}
