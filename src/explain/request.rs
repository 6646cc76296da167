//! The judgement on one request over one snapshot.

use super::approval;
use super::counts::{Counts, Standing, standing};
use super::decision::unaffordable;
use super::locks::{self, OwnNeed};
use super::reason::{Reason, ReasonCode, seconds};
use super::starts::{self, RunningBuild, Start};
use rouse_model::budget;
use rouse_model::build::Lease;
use rouse_model::buildset::{HeldBack, LaunchFailure, Request, RequestState};
use rouse_model::failure::FailureClass;
use rouse_model::matching::{Misfit, Offer, Requirement, fits};
use rouse_model::placement::{Host, Room, place};
use rouse_model::worker::{Phase, Worker};
use rouse_model::{BuildId, BuildResult, Timestamp, Trust};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that the judgement looks at, read at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub request: Request,
    /// What its last build came to, in words, where that was not good.
    pub ended_as: Option<String>,
    /// Pools that its builder names; `None` where the builder is not configured any more.
    pub named: Option<Vec<String>>,
    pub pools: Vec<PoolFacts>,
    /// All that are not gone.
    pub workers: Vec<Worker>,
    pub leases: Vec<Lease>,
    /// What runs in pools that have no room for another worker.
    pub running: BTreeMap<BuildId, RunningBuild>,
    /// Waiting requests in the order in which they are served.
    pub queue: Vec<Request>,
    /// Builder → pools that it names, to tell who ahead wants the same pools.
    pub builders: BTreeMap<String, Vec<String>>,
    /// Builder → locks that its requests need; empty where this one's need none.
    pub needs: BTreeMap<String, Vec<OwnNeed>>,
    /// Those that have locks.
    pub holders: Vec<Request>,
    pub now: Timestamp,
}

/// A pool, as far as it matters here.
#[derive(Debug, Clone)]
pub struct PoolFacts {
    pub name: String,
    pub accepts: Trust,
    pub max: usize,
    /// Workers that do not count in it, as they only wait for builds that theirs have started.
    pub beside_max: usize,
    pub slots: usize,
    /// Its accounts, in order.
    pub hosts: Vec<Host>,
    /// What one worker takes of them.
    pub takes: Room,
    /// Its budget, where that lets no more come.
    pub spent: Option<budget::Standing>,
    /// How long its latest workers took to come, shortest first.
    pub boots: Vec<Duration>,
}

impl PoolFacts {
    /// How long a launch usually takes.
    fn boot(&self) -> Option<Duration> {
        self.boots.get(self.boots.len() / 2).copied()
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    pub request: Request,
    pub primary: Reason,
    pub secondary: Vec<Reason>,
    /// Where it waits for nothing but a worker, and something is known of how long those take.
    pub starts: Option<Start>,
    pub pools: Vec<PoolVerdict>,
    /// Failed launches that stand in its way, newest last.
    pub failures: Vec<LaunchFailure>,
    pub checked_at: Timestamp,
}

/// How one pool stands to the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolVerdict {
    pub pool: String,
    pub verdict: Verdict,
    /// Whole, for a person.
    pub sentence: String,
    pub counts: Counts,
    pub max: usize,
    /// Waiting requests ahead of this one that the pool can run too.
    pub ahead: usize,
    /// Workers of its class on their way.
    pub coming: Vec<Coming>,
    /// When it would likely run it.
    pub starts: Option<Start>,
}

/// Whether a pool can run it, and if so, what keeps it from doing so now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Never(Misfit),
    Waits(ReasonCode),
}

/// A worker on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    pub name: String,
    /// Which of what its pool may be launched as it is.
    pub offering: Option<String>,
    /// It was parked, and is being resumed.
    pub resumed: bool,
    /// How long ago it was wished for, or wanted again.
    pub for_so_long: Duration,
}

/// Says why a request is where it is.
#[must_use]
pub fn judge(snapshot: &Snapshot) -> Explanation {
    let request = &snapshot.request;
    let pools: Vec<PoolVerdict> = match (&snapshot.named, request.state) {
        (Some(named), RequestState::Queued | RequestState::Unapproved) => {
            let mut pools: Vec<_> =
                snapshot.pools.iter().map(|pool| verdict(snapshot, named, pool)).collect();
            leave_to_the_first(named, &mut pools);
            if let Some(locked) = locks::reason(snapshot) {
                all_wait(locked.code, "could run it once it has its locks", &mut pools);
            }
            if request.state == RequestState::Unapproved {
                all_wait(ReasonCode::Approval, "could run it once it is approved", &mut pools);
            }
            pools
        }
        _ => Vec::new(),
    };
    let mut reasons = reasons(snapshot, &pools).into_iter();
    let primary = reasons.next().expect("every branch gives at least one reason");
    // What else stands in its way nobody can foretell.
    let starts = pools.iter().filter(|pool| pool.verdict == Verdict::Waits(primary.code));
    let starts = starts.filter_map(|pool| pool.starts).min();
    Explanation {
        primary,
        secondary: reasons.collect(),
        starts,
        pools,
        failures: if request.state == RequestState::Queued {
            request.provision.failures.clone()
        } else {
            Vec::new()
        },
        checked_at: snapshot.now,
        request: request.clone(),
    }
}

/// As long as it waits for a lock or a person, no pool does anything for it.
fn all_wait(code: ReasonCode, sentence: &str, pools: &mut [PoolVerdict]) {
    for pool in pools.iter_mut().filter(|pool| matches!(pool.verdict, Verdict::Waits(_))) {
        pool.verdict = Verdict::Waits(code);
        sentence.clone_into(&mut pool.sentence);
    }
}

/// Of the pools that have room one is asked, the first that the builder names or else the configuration has; the others do nothing for it.
fn leave_to_the_first(named: &[String], pools: &mut [PoolVerdict]) {
    let place = |pool: &PoolVerdict, at: usize| named.iter().position(|n| *n == pool.pool).unwrap_or(at);
    let mut in_order: Vec<usize> = (0..pools.len()).collect();
    in_order.sort_by_key(|at| place(&pools[*at], *at));
    let mut asked: Option<String> = None;
    for at in in_order {
        let pool = &mut pools[at];
        match (&asked, &pool.verdict) {
            (
                _,
                Verdict::Never(_)
                | Verdict::Waits(ReasonCode::PoolFull | ReasonCode::ProvidersFull | ReasonCode::Budget),
            ) => {}
            (None, Verdict::Waits(_)) => asked = Some(pool.pool.clone()),
            (Some(first), Verdict::Waits(ReasonCode::ResolvingImage | ReasonCode::LaunchDue)) => {
                pool.sentence = format!("has room, but pool `{first}` comes first");
                pool.verdict = Verdict::Waits(ReasonCode::AnotherPoolFirst);
            }
            (Some(_), Verdict::Waits(_)) => {}
        }
    }
}

/// Most telling first.
fn reasons(snapshot: &Snapshot, pools: &[PoolVerdict]) -> Vec<Reason> {
    let request = &snapshot.request;
    match request.state {
        RequestState::Done => return vec![ended(request, snapshot.ended_as.as_deref())],
        RequestState::Claimed => {
            let build = request.build.map_or_else(|| "a build".to_owned(), |build| format!("build {build}"));
            let mut reasons = vec![Reason::new(ReasonCode::Claimed, format!("{build} runs it"))];
            reasons.extend(request.cancel.as_deref().map(cancelling));
            return reasons;
        }
        RequestState::Queued | RequestState::Unapproved => {}
    }
    if let Some(wish) = request.cancel.as_deref() {
        return vec![cancelling(wish)];
    }
    if snapshot.named.is_none() {
        let sentence = format!("builder `{}` is not in the configuration", request.builder);
        return vec![Reason::new(ReasonCode::BuilderMissing, sentence)];
    }
    let mut reasons = Vec::new();
    reasons.extend(approval::reason(request, snapshot.now));
    if !pools.iter().any(|pool| matches!(pool.verdict, Verdict::Waits(_))) {
        reasons.push(nobody_accepts(pools));
        return reasons;
    }
    if request.state == RequestState::Unapproved {
        // What else stands in its way is known once it may go on; but what will for ever is worth knowing before.
        reasons.extend(locks::reason(snapshot).filter(|locked| locked.code.is_permanent()));
        return reasons;
    }
    reasons.extend(held_by_failure(request, snapshot.now).or_else(|| held_back(request, snapshot.now)));
    if let Some(locked) = locks::reason(snapshot) {
        reasons.push(locked);
        return reasons;
    }
    let mut waits: Vec<(ReasonCode, &PoolVerdict)> = pools
        .iter()
        .filter_map(|pool| if let Verdict::Waits(code) = pool.verdict { Some((code, pool)) } else { None })
        .collect();
    waits.sort_by_key(|(code, _)| promise(*code));
    let name_pools = waits.len() > 1;
    reasons.extend(waits.into_iter().map(|(code, pool)| {
        let sentence = if name_pools {
            format!("pool `{}`: {}", pool.pool, pool.sentence)
        } else {
            pool.sentence.clone()
        };
        Reason::new(code, sentence)
    }));
    reasons
}

/// What promises a start soonest comes first.
fn promise(code: ReasonCode) -> u8 {
    match code {
        ReasonCode::BeingMatched => 0,
        ReasonCode::Provisioning => 1,
        ReasonCode::ResolvingImage => 2,
        ReasonCode::LaunchDue => 3,
        ReasonCode::NoWorkersAttached => 4,
        ReasonCode::AnotherPoolFirst => 6,
        _ => 5,
    }
}

fn ended(request: &Request, how: Option<&str>) -> Reason {
    let build = request.build.map_or_else(String::new, |build| format!(", build {build}"));
    match (request.result, request.cancel.as_deref()) {
        (Some(BuildResult::Cancelled), Some(why)) => {
            Reason::new(ReasonCode::Cancelled, format!("cancelled: {why}{build}"))
        }
        (Some(BuildResult::Cancelled), None) => {
            Reason::new(ReasonCode::Cancelled, format!("cancelled{build}"))
        }
        (Some(result), _) => {
            let how = how.map_or_else(String::new, |how| format!(": {how}"));
            Reason::new(ReasonCode::Done, format!("done: {result}{build}{how}"))
        }
        (None, _) => Reason::new(ReasonCode::Done, format!("done{build}")),
    }
}

fn cancelling(wish: &str) -> Reason {
    Reason::new(ReasonCode::Cancelling, format!("is being cancelled: {wish}"))
}

fn nobody_accepts(pools: &[PoolVerdict]) -> Reason {
    let why: Vec<String> = pools.iter().map(|pool| format!("`{}`: {}", pool.pool, pool.sentence)).collect();
    let sentence = if why.is_empty() {
        "no pool can ever run it: the configuration has none".to_owned()
    } else {
        format!("no pool can ever run it: {}", why.join("; "))
    };
    Reason::new(ReasonCode::NoPoolAccepts, sentence)
}

/// A failed launch or a set moment that keeps it from being matched now.
fn held_by_failure(request: &Request, now: Timestamp) -> Option<Reason> {
    let wait = request.waits_until(now).map(|moment| moment.since(now));
    let imageless = request.provision.imageless_since.is_some();
    match (request.provision.failures.last(), wait) {
        (Some(failure), wait) if imageless && failure.class == FailureClass::Image => {
            // Without a wait it is being asked for at this moment.
            let next = seconds(wait?);
            let (pool, why) = (&failure.pool, &failure.message);
            Some(Reason::new(
                ReasonCode::ImageBackingOff,
                format!("pool `{pool}` cannot have its image now ({why}); the next try is in {next}"),
            ))
        }
        (Some(failure), _) if !failure.class.is_transient() => {
            let code = if failure.class == FailureClass::Image {
                ReasonCode::ImageMissing
            } else {
                ReasonCode::LaunchFailed
            };
            Some(Reason::new(
                code,
                format!("pool `{}` cannot launch a worker for it: {}", failure.pool, failure.message),
            ))
        }
        (Some(failure), Some(wait)) => Some(Reason::new(
            ReasonCode::LaunchFailedBackingOff,
            format!(
                "a launch in pool `{}` failed ({}); the next try is in {}",
                failure.pool,
                failure.message,
                seconds(wait)
            ),
        )),
        (None, Some(wait)) => {
            Some(Reason::new(ReasonCode::NotBefore, format!("not to be built for another {}", seconds(wait))))
        }
        (_, None) => None,
    }
}

/// Its pool's accounts have no room, which is found out anew later.
fn held_back(request: &Request, now: Timestamp) -> Option<Reason> {
    let HeldBack { pool, why, until } = request.provision.held.as_ref().filter(|held| held.until > now)?;
    let next = seconds(until.since(now));
    let told =
        format!("pool `{pool}` gets no more workers now ({why}); the next try is in {next} at the latest");
    Some(Reason::new(ReasonCode::OfferingBackingOff, told))
}

fn verdict(snapshot: &Snapshot, named: &[String], pool: &PoolFacts) -> PoolVerdict {
    let request = &snapshot.request;
    let workers: Vec<&Worker> = snapshot.workers.iter().filter(|w| w.pool == pool.name).collect();
    let counts = Counts::of(workers.iter().copied(), &snapshot.leases);
    let offer = Offer { pool: &pool.name, accepts: pool.accepts };
    let wish = Requirement { pools: named, project: &request.project, trust: request.trust };
    let mut answer = PoolVerdict {
        pool: pool.name.clone(),
        verdict: Verdict::Waits(ReasonCode::LaunchDue),
        sentence: String::new(),
        counts,
        max: pool.max,
        ahead: 0,
        coming: Vec::new(),
        starts: None,
    };
    if let Err(misfit) = fits(&wish, &offer) {
        misfit.sentence().clone_into(&mut answer.sentence);
        answer.verdict = Verdict::Never(misfit);
        return answer;
    }
    // One that is not approved has no place in the queue yet.
    if request.state == RequestState::Queued {
        answer.ahead = ahead(snapshot, &offer);
    }
    let digest = request.provision.digests.get(&pool.name);
    let of_class = |w: &&Worker| {
        w.trust == request.trust && w.project == request.project && digest.is_none_or(|d| *d == w.spec_digest)
    };
    let (free, locked) = workers
        .iter()
        .copied()
        .filter(of_class)
        .filter(|w| w.takes_work(snapshot.now) && standing(w, &snapshot.leases) == Standing::Idle)
        .map(|w| locks::on_worker(snapshot, w.id))
        .fold((false, None), |(free, locked), lock| (free || lock.is_none(), locked.or(lock)));
    answer.coming = workers
        .iter()
        .copied()
        .filter(of_class)
        .filter(|w| w.is_coming())
        .map(|w| Coming {
            name: w.name.clone(),
            offering: w.offering.clone(),
            resumed: w.is_being_resumed(),
            for_so_long: snapshot.now.since(wanted_since(w, snapshot.now)),
        })
        .collect();
    let (mut code, mut sentence) = waits_for(pool, &answer, digest.is_some(), free);
    if let Some(lock) = locked.filter(|_| code == ReasonCode::PoolFull) {
        code = ReasonCode::LockTaken;
        sentence = format!(
            "its maximum of workers is reached, and lock `{lock}` is taken on each that has a free slot"
        );
    }
    answer.verdict = Verdict::Waits(code);
    answer.sentence = sentence;
    answer.starts = starts::of_pool(snapshot, pool, &answer, code);
    answer
}

/// Since when one that is on its way is waited for.
fn wanted_since(worker: &Worker, now: Timestamp) -> Timestamp {
    match worker.phase {
        Phase::Resuming { since, .. } => since,
        Phase::Parking { .. } | Phase::Parked { .. } => now,
        _ => worker.requested,
    }
}

/// What keeps a pool that could run it from running it now.
fn waits_for(pool: &PoolFacts, so_far: &PoolVerdict, resolved: bool, free: bool) -> (ReasonCode, String) {
    let counts = so_far.counts;
    let behind = match so_far.ahead {
        0 => String::new(),
        1 => "; 1 request is ahead".to_owned(),
        n => format!("; {n} requests are ahead"),
    };
    if free && resolved {
        return (ReasonCode::BeingMatched, format!("a worker is free for it{behind}"));
    }
    // Whoever is ahead takes the first to come.
    if let Some(first) = so_far.coming.get(so_far.ahead / pool.slots.max(1)).or(so_far.coming.last()) {
        let usual = pool.boot().map_or_else(String::new, |boot| format!(" of about {}", seconds(boot)));
        let (name, for_so_long) = (&first.name, seconds(first.for_so_long));
        let kind = first.offering.as_ref().map_or_else(String::new, |offering| format!(" as {offering}"));
        let sentence = match first.resumed {
            true => format!("worker {name} was parked, and is being resumed: {for_so_long}{behind}"),
            false => format!("worker {name} is on its way{kind}: {for_so_long}{usual}{behind}"),
        };
        return (ReasonCode::Provisioning, sentence);
    }
    // One that lies parked makes room.
    if counts.live() - counts.parked >= pool.max + pool.beside_max {
        let taken = taken(counts);
        let workers = if pool.max == 1 { "worker" } else { "workers" };
        let beside = match super::decision::waiting(pool.beside_max) {
            Some(waiting) => format!("; {waiting}"),
            None => String::new(),
        };
        let sentence = format!("its maximum of {} {workers} is reached: {taken}{beside}{behind}", pool.max);
        return (ReasonCode::PoolFull, sentence);
    }
    if let Err(refusals) = place(&pool.hosts, pool.takes) {
        let each: Vec<String> =
            pool.hosts.iter().zip(refusals).map(|(host, why)| format!("`{}`: {why}", host.name)).collect();
        let sentence = format!("no provider has room for a worker: {}{behind}", each.join("; "));
        return (ReasonCode::ProvidersFull, sentence);
    }
    if let Some(standing) = &pool.spent {
        return (ReasonCode::Budget, format!("{}{behind}", unaffordable(standing)));
    }
    if !resolved {
        return (
            ReasonCode::ResolvingImage,
            format!("no worker yet; what to launch is being worked out{behind}"),
        );
    }
    if counts.silent > 0 {
        let word = if counts.silent == 1 {
            "worker is up but its agent does"
        } else {
            "workers are up but their agents do"
        };
        return (ReasonCode::NoWorkersAttached, format!("{} {word} not answer{behind}", counts.silent));
    }
    (ReasonCode::LaunchDue, format!("no worker yet; one is about to be launched{behind}"))
}

/// What a pool's workers are at, for one that has no room.
fn taken(counts: Counts) -> String {
    let parts = [
        (counts.busy, "busy"),
        (counts.coming, "on their way for others"),
        (counts.idle, "idle with another image, trust or project"),
        (counts.silent, "without an answer of their agent"),
        (counts.leaving, "about to end"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if parts.is_empty() { "none may run".to_owned() } else { parts.join(", ") }
}

/// Waiting requests before this one that the pool can run too.
fn ahead(snapshot: &Snapshot, offer: &Offer<'_>) -> usize {
    snapshot
        .queue
        .iter()
        .take_while(|other| other.id != snapshot.request.id)
        .filter(|other| other.cancel.is_none() && other.waits_until(snapshot.now).is_none())
        .filter(|other| {
            snapshot.builders.get(&other.builder).is_some_and(|named| {
                fits(&Requirement { pools: named, project: &other.project, trust: other.trust }, offer)
                    .is_ok()
            })
        })
        .count()
}

#[cfg(test)]
pub(super) mod tests;
