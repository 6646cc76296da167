//! Which lock a request waits for, and who has it: the order in which the fleet gives them out, over the same rows.

use super::reason::{Reason, ReasonCode};
use super::request::Snapshot;
use crate::config::Config;
use rouse_model::buildset::{Request, RequestState};
use rouse_model::locks::{Blocked, Ledger, Lock, Need, Scope, Share, has_all, of_workers, refused};
use rouse_model::matching::{Offer, Requirement, fits};
use rouse_model::{RequestId, WorkerId};
use std::collections::BTreeMap;

/// How many are named.
const NAMED: usize = 3;

/// A lock that the requests of a builder need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnNeed {
    pub name: String,
    pub lock: Lock,
    pub share: Share,
}

/// Builder → what its requests need; those that need nothing are left out.
pub(super) fn needs(config: &Config) -> BTreeMap<String, Vec<OwnNeed>> {
    let of_builder = |(name, builder): (&crate::config::BuilderName, _)| {
        let needs = crate::requests::needs(config, builder, None);
        let own = |need: Need<'_>| OwnNeed { name: need.name.to_owned(), lock: need.lock, share: need.share };
        (!needs.is_empty()).then(|| (name.to_string(), needs.into_iter().map(own).collect()))
    };
    config.builders.iter().filter_map(of_builder).collect()
}

fn needs_of<'a>(snapshot: &'a Snapshot, request: &'a Request) -> Vec<Need<'a>> {
    let branch = request.branch.as_deref();
    let needs = snapshot.needs.get(&request.builder).map_or(&[][..], Vec::as_slice);
    needs.iter().map(|need| Need { name: &need.name, lock: need.lock, share: need.share, branch }).collect()
}

/// A lock of its that is counted on workers and taken on this one.
pub(super) fn on_worker<'a>(snapshot: &'a Snapshot, worker: WorkerId) -> Option<&'a str> {
    let needs: Vec<Need<'a>> = of_workers(&needs_of(snapshot, &snapshot.request));
    if needs.is_empty() {
        return None;
    }
    let ledger = Ledger::of(snapshot.holders.iter().flat_map(|h| h.holds().iter().map(|hold| (h.id, hold))));
    let taken = |need: &&Need<'_>| {
        let need = std::slice::from_ref(*need);
        ledger.try_all(need, snapshot.request.trust, Some(worker)).is_err()
    };
    needs.iter().find(taken).map(|need| need.name)
}

/// `None` where it waits for no lock that is counted for all.
pub(super) fn reason(snapshot: &Snapshot) -> Option<Reason> {
    let request = &snapshot.request;
    let needs = needs_of(snapshot, request);
    if let Some(lock) = refused(&needs, request.trust) {
        return Some(Reason::new(
            ReasonCode::LockRefused,
            format!(
                "lock `{lock}` is for trusted builds only, and this one is untrusted (`accepts: any` would let it)"
            ),
        ));
    }
    if needs.is_empty() || has_all(request.holds(), &needs) {
        return None;
    }
    let holders = snapshot.holders.iter().filter(|holder| holder.id != request.id);
    let mut ledger = Ledger::of(holders.flat_map(|h| h.holds().iter().map(|hold| (h.id, hold))));
    for other in snapshot.queue.iter().take_while(|other| other.id != request.id) {
        let theirs = needs_of(snapshot, other);
        let refused = refused(&theirs, other.trust).is_some();
        if !refused && !has_all(other.holds(), &theirs) && waits(snapshot, other) {
            ledger.wait(other.id, &theirs, None);
        }
    }
    let Blocked::Taken { lock, by, ahead } = ledger.try_all(&needs, request.trust, None).err()? else {
        return None;
    };
    let need = needs.iter().find(|need| need.name == lock)?;
    Some(Reason::new(ReasonCode::LockTaken, taken(snapshot, need, &by, &ahead)))
}

/// Whether another request waits for its locks now, as the fleet sees it.
fn waits(snapshot: &Snapshot, other: &Request) -> bool {
    let Some(named) = snapshot.builders.get(&other.builder) else { return false };
    let wish = Requirement { pools: named, project: &other.project, trust: other.trust };
    let has_pool = snapshot
        .pools
        .iter()
        .any(|pool| fits(&wish, &Offer { pool: &pool.name, accepts: pool.accepts }).is_ok());
    has_pool && other.cancel.is_none() && other.waits_until(snapshot.now).is_none()
}

fn taken(snapshot: &Snapshot, need: &Need<'_>, by: &[RequestId], ahead: &[RequestId]) -> String {
    let of = match (need.lock.per, need.branch) {
        (Scope::Branch, Some(branch)) => format!("` of branch `{branch}"),
        _ => String::new(),
    };
    let name = format!("{}{of}", need.name);
    let what = match need.share {
        Share::Exclusive if need.lock.count > 1 => format!("all of lock `{name}`"),
        Share::Count(count) if need.lock.count > 1 => {
            format!("{count} of lock `{name}`, of which there are {}", need.lock.count)
        }
        Share::Exclusive | Share::Count(_) => format!("lock `{name}`"),
    };
    let holder = |id: &RequestId| {
        let row = snapshot.holders.iter().find(|holder| holder.id == *id);
        match row.and_then(|row| row.build.filter(|_| row.state == RequestState::Claimed)) {
            Some(build) => format!("build {build}"),
            None => format!("request {id}"),
        }
    };
    let mut names: Vec<String> = by.iter().take(NAMED).map(holder).collect();
    if by.len() > NAMED {
        names.push(format!("{} more", by.len() - NAMED));
    }
    let held = match names.split_last() {
        None => String::new(),
        Some((last, [])) => format!(", held by {last}"),
        Some((last, others)) => format!(", held by {} and {last}", others.join(", ")),
    };
    let ahead = match ahead {
        [] => String::new(),
        [one] => format!("; request {one} is ahead"),
        several => format!("; {} requests are ahead", several.len()),
    };
    format!("waits for {what}{held}{ahead}")
}
