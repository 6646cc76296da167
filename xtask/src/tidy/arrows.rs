//! Which package may depend on which: the one table. A new arrow needs an ADR under `docs/adr/`.

use anyhow::Result;

use super::Faults;
use crate::workspace::Workspace;

/// Package → ours that it may be linked with. Tests may use `TESTS` too.
const ARROWS: &[(&str, &[&str])] = &[
    ("rouse-model", &[]),
    ("rouse-store", &["rouse-model"]),
    ("rouse-testkit", &["rouse-model"]),
    ("rouse-contract", &["rouse-model"]),
    ("rouse-provider-local", &["rouse-contract", "rouse-model"]),
    ("rouse-provider-docker", &["rouse-contract", "rouse-model"]),
    ("rouse-provider-enrolled", &["rouse-contract", "rouse-model"]),
    // docs/adr/0016
    ("rouse-provider-fake", &["rouse-contract", "rouse-model", "rouse-testkit"]),
    ("rouse-agent-protocol", &[]),
    ("rouse-agent", &["rouse-agent-protocol"]),
    (
        "rouse",
        &[
            "rouse-model",
            "rouse-store",
            "rouse-contract",
            "rouse-provider-local",
            "rouse-provider-docker",
            // docs/adr/0037
            "rouse-provider-enrolled",
            "rouse-agent-protocol",
        ],
    ),
    // docs/adr/0033: the scaler's sum is measured as it is.
    ("rouse-bench", &["rouse-agent-protocol", "rouse-model"]),
    ("xtask", &[]),
];

/// What the tests of every package may use beside.
const TESTS: &[&str] = &["rouse-testkit", "rouse-provider-fake", "rouse-provider-local"];

pub fn check(workspace: &Workspace) -> Result<Faults> {
    let mut faults = Faults::new();
    for package in &workspace.packages {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            faults.push(format!("package {} has no row in xtask/src/tidy/arrows.rs", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.ours) {
            let name = dependency.name.as_str();
            // A package may test itself with more of its features.
            let of_tests = TESTS.contains(&name) || name == package.name;
            let fine = allowed.contains(&name) || (dependency.dev && of_tests);
            if !fine {
                let what = if dependency.dev { "the tests of " } else { "" };
                faults.push(format!(
                    "{what}{} → {name}: a new arrow needs an ADR under docs/adr and a row in \
                     xtask/src/tidy/arrows.rs",
                    package.name
                ));
            }
        }
    }
    for (name, _) in ARROWS {
        if !workspace.packages.iter().any(|package| package.name == *name) {
            faults.push(format!("{name} has a row in xtask/src/tidy/arrows.rs, but is no package"));
        }
    }
    Ok(faults)
}
