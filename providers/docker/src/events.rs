//! The daemon's events, as hints.

use crate::daemon::Daemon;
use crate::labels::{Labels, Owner, is_beside};
use crate::reference::Reference;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures::StreamExt;
use futures::stream::BoxStream;
use rouse_contract::Hint;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between attempts to reach a daemon that is away.
const PAUSE: Duration = Duration::from_secs(1);
/// The events of a container's end: as Docker calls them, and as Podman does where it is asked for them.
const NAMES: [&str; 4] = ["die", "destroy", "died", "remove"];

/// The stream of one connection, kept between calls so that a call may be cancelled.
#[derive(Default)]
pub(crate) struct Events {
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    stream: Option<BoxStream<'static, Result<EventMessage, Error>>>,
    /// When the last event was, by the daemon's clock: the next connection goes on from there.
    last: Option<Duration>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    pub(crate) async fn next(&self, daemon: &Daemon, owner: &Owner) -> Hint {
        let mut state = self.state.lock().await;
        loop {
            let Some(stream) = &mut state.stream else {
                match daemon.api().await {
                    Ok(api) => {
                        // From now on and not from when the daemon gets to it: something may end in between.
                        let since = state.last.map_or_else(now, |last| last + Duration::from_nanos(1));
                        state.last = Some(since);
                        let options = options(owner, since);
                        state.stream = Some(api.clone().events(Some(options)).boxed());
                        // What happened while nobody listened longer than the daemon remembers is not told.
                        return Hint::Everything;
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
                continue;
            };
            match stream.next().await {
                Some(Ok(event)) => {
                    state.last = event.time_nano.and_then(since_1970).or(state.last);
                    // A service that ends is its builds' affair.
                    if let Some(hint) = hint(owner, event) {
                        return hint;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(host = daemon.host(), %error, "the daemon's events broke off");
                    tokio::time::sleep(PAUSE).await;
                    state.stream = None;
                }
                None => {
                    tokio::time::sleep(PAUSE).await;
                    state.stream = None;
                }
            }
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn since_1970(nanos: i64) -> Option<Duration> {
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn options(owner: &Owner, since: Duration) -> EventsOptions {
    let mut filters = owner.filter().asked();
    filters.insert("type".into(), vec!["container".into()]);
    filters.insert("event".into(), NAMES.map(str::to_owned).into());
    let since = Some(format!("{}.{:09}", since.as_secs(), since.subsec_nanos()));
    EventsOptions { since, until: None, filters: Some(filters) }
}

fn hint(owner: &Owner, event: EventMessage) -> Option<Hint> {
    let actor = event.actor.unwrap_or_default();
    let labels: Labels = actor.attributes.unwrap_or_default();
    if !owner.owns(&labels) || is_beside(&labels) {
        return None;
    }
    Some(match (owner.tag(&labels), actor.id) {
        (Some(tag), Some(container)) => {
            Hint::Instance(Reference::Worker { key: tag.key(), container }.to_ref())
        }
        _ => Hint::Everything,
    })
}
