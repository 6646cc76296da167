//! A person's word that a request may be built: who is asked for it, and who gave it. It changes nothing of the request's trust.

use crate::buildset::{Request, RequestState};
use crate::{Timestamp, Trust};
use serde::{Deserialize, Serialize};

/// Which requests of a builder wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalOf {
    /// Those of untrusted origin.
    Strangers,
    All,
}

impl ApprovalOf {
    /// Whether a request of this trust waits.
    #[must_use]
    pub fn asks(self, trust: Trust) -> bool {
        self == Self::All || trust == Trust::Untrusted
    }
}

/// What a request needs, from its beginning on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Why it is asked.
    pub of: ApprovalOf,
    /// `None` as long as nobody has said so.
    pub given: Option<Given>,
}

/// Who said that it may be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub by: String,
    pub reason: Option<String>,
    pub at: Timestamp,
}

/// What became of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approving {
    Applied,
    /// Somebody was first, or it was asked for by whoever may say so.
    AlreadySatisfied,
    Conflict(Unapprovable),
}

/// Why a request cannot be approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unapprovable {
    NotAsked,
    Ended,
    /// Somebody wants it to end.
    Cancelled,
}

impl Request {
    /// Lets it go on to where it waits for a worker.
    pub fn approve(&mut self, given: Given) -> Approving {
        let Some(approval) = &mut self.approval else {
            return Approving::Conflict(Unapprovable::NotAsked);
        };
        if approval.given.is_some() {
            return Approving::AlreadySatisfied;
        }
        if self.state != RequestState::Unapproved {
            return Approving::Conflict(Unapprovable::Ended);
        }
        if self.cancel.is_some() {
            return Approving::Conflict(Unapprovable::Cancelled);
        }
        approval.given = Some(given);
        self.state = RequestState::Queued;
        self.lapses = None;
        Approving::Applied
    }

    /// Whether one word of a person is enough for both: they wait for the same thing, that somebody looks at what strangers want to have built.
    #[must_use]
    pub fn is_approved_with(&self, other: &Self) -> bool {
        let strangers = |request: &Self| {
            request.approval.as_ref().is_some_and(|approval| approval.of == ApprovalOf::Strangers)
        };
        self.buildset == other.buildset && strangers(self) && strangers(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buildset::Provision;
    use crate::{BuildsetId, ConfigRevisionId, RequestId};

    fn request(of: ApprovalOf) -> Request {
        Request {
            id: RequestId(1),
            buildset: BuildsetId(1),
            builder: "unit".into(),
            project: "default".into(),
            branch: None,
            state: RequestState::Unapproved,
            priority: 0,
            created: Timestamp(1),
            not_before: None,
            attempts: 0,
            trust: Trust::Untrusted,
            cancel: None,
            build: None,
            claimed_by: None,
            result: None,
            done: None,
            config: ConfigRevisionId(1),
            provision: Provision::default(),
            locks: None,
            approval: Some(Approval { of, given: None }),
            lapses: Some(Timestamp(9)),
            generation: 0,
        }
    }

    fn given(by: &str) -> Given {
        Given { by: by.into(), reason: None, at: Timestamp(2) }
    }

    #[test]
    fn strangers_are_asked_for_what_is_untrusted_and_all_for_everything() {
        assert!(ApprovalOf::Strangers.asks(Trust::Untrusted) && !ApprovalOf::Strangers.asks(Trust::Trusted));
        assert!(ApprovalOf::All.asks(Trust::Untrusted) && ApprovalOf::All.asks(Trust::Trusted));
    }

    #[test]
    fn the_first_word_counts_and_the_request_goes_on_as_untrusted_as_before() {
        let mut asked = request(ApprovalOf::Strangers);
        assert_eq!(asked.approve(given("alice")), Approving::Applied);
        assert_eq!((asked.state, asked.lapses, asked.trust), (RequestState::Queued, None, Trust::Untrusted));
        asked.state = RequestState::Done;
        assert_eq!(asked.approve(given("bob")), Approving::AlreadySatisfied);
        assert_eq!(asked.approval.unwrap().given.unwrap().by, "alice");
    }

    #[test]
    fn what_needs_no_word_or_is_about_to_end_cannot_be_approved() {
        let refused = |change: fn(&mut Request)| {
            let mut asked = request(ApprovalOf::All);
            change(&mut asked);
            let before = asked.clone();
            let answer = asked.approve(given("alice"));
            assert_eq!(asked, before);
            answer
        };
        assert_eq!(refused(|r| r.approval = None), Approving::Conflict(Unapprovable::NotAsked));
        assert_eq!(refused(|r| r.state = RequestState::Done), Approving::Conflict(Unapprovable::Ended));
        assert_eq!(refused(|r| r.cancel = Some("bob".into())), Approving::Conflict(Unapprovable::Cancelled));
    }

    #[test]
    fn one_word_is_for_all_strangers_requests_of_a_buildset_and_for_nothing_else() {
        let (one, other) = (request(ApprovalOf::Strangers), request(ApprovalOf::Strangers));
        assert!(one.is_approved_with(&other));
        assert!(!one.is_approved_with(&request(ApprovalOf::All)));
        assert!(!request(ApprovalOf::All).is_approved_with(&request(ApprovalOf::All)));
        assert!(!one.is_approved_with(&Request { buildset: BuildsetId(2), ..other }));
    }
}
