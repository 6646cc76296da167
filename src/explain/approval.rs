//! Why a request waits for a person, and how long it does.

use super::reason::{Reason, ReasonCode, seconds};
use rouse_model::Timestamp;
use rouse_model::approval::ApprovalOf;
use rouse_model::buildset::{Request, RequestState};

/// `None` where it waits for nobody's word.
pub(super) fn reason(request: &Request, now: Timestamp) -> Option<Reason> {
    let approval = request.approval.as_ref().filter(|_| request.state == RequestState::Unapproved)?;
    let builder = &request.builder;
    let why = match approval.of {
        ApprovalOf::Strangers => {
            format!("its origin is untrusted, and builder `{builder}` builds no stranger's work unasked")
        }
        ApprovalOf::All => format!("builder `{builder}` builds nothing unasked"),
    };
    let ends = request.lapses.map_or_else(String::new, |at| {
        format!("; unless somebody does, it is cancelled in {}", seconds(at.since(now)))
    });
    let id = request.id;
    Some(Reason {
        help: Some(format!(
            "look at what it would build, then: rouse request approve {id}, or: rouse request cancel {id}"
        )),
        ..Reason::new(ReasonCode::Approval, format!("waits for a person to approve it: {why}{ends}"))
    })
}
