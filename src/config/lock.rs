//! `locks`: what builds share and what is no worker; and how much of it a builder takes.

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::LockName;
use super::pool::RawAccepts;
use super::tree::Path;
use indexmap::IndexMap;
use rouse_model::Trust;
use rouse_model::locks::{Lock, Scope, Share};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Lock")]
pub(crate) enum RawLock {
    /// So many may be taken at the same time.
    Count(#[schemars(range(min = 1, max = 100_000))] u32),
    Of(RawLockOf),
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LockOf")]
pub(crate) struct RawLockOf {
    /// So many may be taken at the same time. Default: 1.
    #[schemars(range(min = 1, max = 100_000))]
    count: Option<u32>,
    /// `worker`: counted on each worker by itself; `branch`: for each branch that is built. Default: over the whole installation.
    per: Option<RawPer>,
    /// `trusted`: builds of trusted origin only may take it; `any`: untrusted ones too. Default: `trusted`.
    accepts: Option<RawAccepts>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Per")]
enum RawPer {
    /// Counted on each worker by itself.
    Worker,
    /// Counted for each branch by itself.
    Branch,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "LockShare")]
pub(crate) enum RawShare {
    /// So many of it.
    Count(#[schemars(range(min = 1, max = 100_000))] u32),
    Word(RawExclusive),
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Exclusive")]
pub(crate) enum RawExclusive {
    /// All of it: nobody else has any of it meanwhile.
    Exclusive,
}

impl RawLock {
    pub(crate) fn check(&self) -> Lock {
        let of = match *self {
            Self::Count(count) => RawLockOf { count: Some(count), per: None, accepts: None },
            Self::Of(of) => of,
        };
        Lock {
            count: of.count.unwrap_or(1),
            per: match of.per {
                None => Scope::Installation,
                Some(RawPer::Worker) => Scope::Worker,
                Some(RawPer::Branch) => Scope::Branch,
            },
            accepts: of.accepts.map_or(Trust::Trusted, RawAccepts::least),
        }
    }
}

/// What one builder itself says that it takes: each is declared, and has so much.
pub(crate) fn check_own(locks: &IndexMap<LockName, RawShare>, cx: &mut Context<'_>, path: &Path) {
    for (name, share) in locks {
        let at = path.join(name);
        if !cx.refer_key("locks", name, &at) {
            continue;
        }
        let Some(lock) = cx.locks.get(name) else { continue };
        if let RawShare::Count(count) = share
            && *count > lock.count
        {
            let message = format!("{count} of lock `{name}` are never to be had in {}", cx.place(path));
            let fault = Fault::new(Code::OutOfRange, cx.value(&at), message);
            let declared = cx.key(&Path::of(["locks", name.as_str()]));
            cx.push(fault.label(format!("there are {}", lock.count)).related(declared, "declared here"));
        }
    }
}

pub(crate) fn shares(locks: IndexMap<LockName, RawShare>) -> IndexMap<LockName, Share> {
    let share = |share| match share {
        RawShare::Count(count) => Share::Count(count),
        RawShare::Word(RawExclusive::Exclusive) => Share::Exclusive,
    };
    locks.into_iter().map(|(name, raw)| (name, share(raw))).collect()
}
