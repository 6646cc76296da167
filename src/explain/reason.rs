//! Reason codes: each has an entry in `docs/reference/reasons.md` under its own name, which a test holds.

use std::fmt;
use std::time::Duration;

/// Why a request is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonCode {
    /// It ended.
    Done,
    Cancelled,
    /// Somebody wants it to end; whoever holds it will see to it.
    Cancelling,
    /// A build runs it.
    Claimed,
    /// Its builder is not in the configuration any more.
    BuilderMissing,
    /// No pool can ever run it.
    NoPoolAccepts,
    /// A launch failed for its image, which trying again does not mend.
    ImageMissing,
    /// Its image cannot be had now, which is tried again later.
    ImageBackingOff,
    /// No provider of its pool has room, which is tried again later.
    OfferingBackingOff,
    /// A launch failed in a way that somebody must mend.
    LaunchFailed,
    /// A launch failed and is tried again later.
    LaunchFailedBackingOff,
    /// It is not to be built before a moment.
    NotBefore,
    /// A person has to say that it may be built.
    Approval,
    /// A lock that it needs is taken, or others wait for it with a better right.
    LockTaken,
    /// It may never take a lock that it needs.
    LockRefused,
    /// What its image means is being asked for.
    ResolvingImage,
    /// A worker is free for it.
    BeingMatched,
    /// A worker is on its way.
    Provisioning,
    /// Instances run, but no agent of theirs answers.
    NoWorkersAttached,
    /// There is room, and a worker is about to be launched.
    LaunchDue,
    /// Its pools are at their maximum.
    PoolFull,
    /// Its pools' providers have no room, or are drained.
    ProvidersFull,
    /// Its pools may spend no more.
    Budget,
    /// This pool could run it, and one that comes before it is asked.
    AnotherPoolFirst,
}

impl ReasonCode {
    pub const ALL: [Self; 24] = [
        Self::Done,
        Self::Cancelled,
        Self::Cancelling,
        Self::Claimed,
        Self::BuilderMissing,
        Self::NoPoolAccepts,
        Self::ImageMissing,
        Self::ImageBackingOff,
        Self::OfferingBackingOff,
        Self::LaunchFailed,
        Self::LaunchFailedBackingOff,
        Self::NotBefore,
        Self::Approval,
        Self::LockTaken,
        Self::LockRefused,
        Self::ResolvingImage,
        Self::BeingMatched,
        Self::Provisioning,
        Self::NoWorkersAttached,
        Self::LaunchDue,
        Self::PoolFull,
        Self::ProvidersFull,
        Self::Budget,
        Self::AnotherPoolFirst,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Cancelling => "cancelling",
            Self::Claimed => "claimed",
            Self::BuilderMissing => "builder_missing",
            Self::NoPoolAccepts => "no_pool_accepts",
            Self::ImageMissing => "image_missing",
            Self::ImageBackingOff => "image_backing_off",
            Self::OfferingBackingOff => "offering_backing_off",
            Self::LaunchFailed => "launch_failed",
            Self::LaunchFailedBackingOff => "launch_failed_backing_off",
            Self::NotBefore => "not_before",
            Self::Approval => "approval",
            Self::LockTaken => "lock_taken",
            Self::LockRefused => "lock_refused",
            Self::ResolvingImage => "resolving_image",
            Self::BeingMatched => "being_matched",
            Self::Provisioning => "provisioning",
            Self::NoWorkersAttached => "no_workers_attached",
            Self::LaunchDue => "launch_due",
            Self::PoolFull => "pool_full",
            Self::ProvidersFull => "providers_full",
            Self::Budget => "budget",
            Self::AnotherPoolFirst => "another_pool_first",
        }
    }

    /// Waiting alone will not help: somebody must change something.
    #[must_use]
    pub fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::BuilderMissing
                | Self::NoPoolAccepts
                | Self::ImageMissing
                | Self::LaunchFailed
                | Self::LockRefused
        )
    }

    /// What to do about it; `None` where nothing need be done.
    #[must_use]
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::BuilderMissing => "put the builder back into the configuration, or cancel the request",
            Self::NoPoolAccepts => {
                "add a pool that takes it, or change `accepts` or the builder's `pool`; or cancel the request"
            }
            Self::ImageBackingOff => {
                "wait, or mend the registry; the pool's `deadlines: {launch: …}` say how long it is tried"
            }
            Self::OfferingBackingOff => {
                "wait, raise the quota, or add a provider to the pool's `on` or an offer to its `offers`"
            }
            Self::ImageMissing => "make or push the image, or correct the pool's `image`",
            Self::LaunchFailed => "mend what the provider complains of",
            Self::LaunchFailedBackingOff => "see what the launch printed: `rouse worker show NAME`",
            Self::Approval => {
                "look at what it would build; then approve it, `rouse request approve ID`, or cancel it"
            }
            Self::LockTaken => "wait, raise the lock's `count`, or cancel what has it: `rouse lock list`",
            Self::LockRefused => {
                "let untrusted builds take the lock, with `accepts: any`; or cancel the request"
            }
            Self::NoWorkersAttached => "see the worker's console: `rouse worker show NAME`",
            Self::ProvidersFull => {
                "wait, raise the limits of a provider, add one to the pool's `on`, or end a provider's `drain`"
            }
            Self::Budget => "wait until it begins anew, raise it, or grant more: `rouse pool grant NAME`",
            Self::PoolFull => "wait, raise the pool's `max`, or cancel what is not needed",
            Self::Done
            | Self::Cancelled
            | Self::Cancelling
            | Self::Claimed
            | Self::NotBefore
            | Self::ResolvingImage
            | Self::BeingMatched
            | Self::Provisioning
            | Self::LaunchDue
            | Self::AnotherPoolFirst => return None,
        })
    }

    /// Where the docs explain it.
    #[must_use]
    pub fn docs(self) -> String {
        format!("docs/reference/reasons.md#{}", self.as_str())
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One reason, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: ReasonCode,
    /// Whole, for a person, without a full stop.
    pub sentence: String,
    /// What to do about it; `None` where nothing need be done.
    pub help: Option<String>,
}

impl Reason {
    pub(crate) fn new(code: ReasonCode, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into(), help: code.advice().map(str::to_owned) }
    }
}

/// `0.4 s`, `31 s`, `4 min`, `2 h`, `3 days`: one figure that a person can take in.
pub(super) fn seconds(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{:.1} s", span.as_secs_f64()),
        s @ 1..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::WorkerCode;
    use rouse_model::decision::DecisionCode;

    #[test]
    fn every_code_is_explained_in_the_docs() {
        let page = include_str!("../../docs/reference/reasons.md");
        let explained: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let mut known: Vec<String> = ReasonCode::ALL.iter().map(|code| code.docs()).collect();
        known.extend(WorkerCode::ALL.iter().map(|code| code.docs()));
        known.extend(DecisionCode::ALL.iter().map(|code| crate::explain::decision::docs(*code)));
        let explained: Vec<String> =
            explained.iter().map(|name| format!("docs/reference/reasons.md#{name}")).collect();
        assert_eq!(explained, known);
    }
}
