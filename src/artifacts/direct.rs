//! Files that a sender puts into a bucket itself: leave is given for just these bytes at a new place, and the file is an artifact once its sender
//! says that it is there and the store says so too.
//!
//! Leave stands in memory alone: a master that ends forgets it, and the sender sends the file as others do. What somebody had leave for and
//! never told of is removed after a while.

use super::{Artifacts, Incoming, ReceiveError};
use crate::objects::{GOOD_FOR, MOST, Signed};
use futures::StreamExt;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use rouse_agent_protocol::{DIRECT_LEAST_BYTES, MAX_UPLOAD_BYTES};
use rouse_model::logs::Artifact;
use rouse_model::{ArtifactId, StepId};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What began while its leave was good has come by then.
const SETTLED: Duration = Duration::from_secs(2 * 3600);
/// Beyond so many files go by the master.
const MOST_AT_ONCE: usize = 10_000;

/// Leave that was given.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    given: Mutex<HashMap<ArtifactId, Given>>,
}

#[derive(Debug, Clone)]
struct Given {
    step: StepId,
    set: String,
    path: String,
    bytes: u64,
    sha256: String,
    key: String,
    since: Instant,
    is_kept: bool,
}

impl Given {
    fn is_of(&self, incoming: &Incoming) -> bool {
        (self.step, &self.set, &self.path) == (incoming.step, &incoming.set, &incoming.path)
    }
}

impl Ledger {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ArtifactId, Given>> {
        self.given.lock().expect("nothing panics while it is held")
    }

    /// Gives leave, unless a step would have more on its way than it may have.
    fn give(&self, id: ArtifactId, given: Given, room: u64) -> bool {
        let mut all = self.lock();
        // However often a step asks, so much may be put there without being kept.
        let under_way = all
            .values()
            .filter(|other| other.step == given.step)
            .map(|other| other.bytes)
            .fold(0, u64::saturating_add);
        let fits = given.bytes.saturating_add(under_way) <= room.min(MAX_UPLOAD_BYTES);
        if fits && all.len() < MOST_AT_ONCE {
            all.insert(id, given);
            return true;
        }
        false
    }

    /// Forgets what is long settled; the keys of what nobody told of.
    fn expired(&self, after: Duration) -> Vec<String> {
        let mut all = self.lock();
        let old: Vec<ArtifactId> =
            all.iter().filter(|(_, given)| given.since.elapsed() >= after).map(|(id, _)| *id).collect();
        old.into_iter()
            .filter_map(|id| all.remove(&id))
            .filter(|given| !given.is_kept)
            .map(|given| given.key)
            .collect()
    }
}

impl Artifacts {
    /// Leave to put a file into the store; `None` where it is to be sent here.
    ///
    /// # Errors
    /// Where the file would not be taken either way, or a store cannot be reached.
    pub async fn leave(
        &self,
        incoming: &Incoming,
        bytes: u64,
    ) -> Result<Option<(ArtifactId, Signed)>, ReceiveError> {
        self.remove_objects(self.ledger.expired(SETTLED)).await;
        self.build_of(incoming).await?;
        let room = self.room(incoming).await?;
        if bytes > room {
            return Err(ReceiveError::Refused(format!(
                "{} has more than the {room} bytes that are left for the files of its step",
                incoming.path
            )));
        }
        let sha256 =
            incoming.sha256.as_deref().and_then(|sum| hex::decode(sum).ok()).filter(|sum| sum.len() == 32);
        let Some(sha256) = sha256 else { return Ok(None) };
        if !self.objects.is_direct()
            || !(DIRECT_LEAST_BYTES..=MOST).contains(&bytes)
            || super::is_small(&incoming.set)
        {
            return Ok(None);
        }
        let id: ArtifactId = self.store.next_id().await?;
        let given = Given {
            step: incoming.step,
            set: incoming.set.clone(),
            path: incoming.path.clone(),
            bytes,
            sha256: hex::encode(&sha256),
            key: self.key(incoming.build, id),
            since: Instant::now(),
            is_kept: false,
        };
        match self.objects.leave_to_put(&given.key, &sha256).await {
            Ok(signed) => Ok(self.ledger.give(id, given, room).then_some((id, signed))),
            Err(error) => {
                tracing::warn!(
                    error = crate::supervisor::chain(&error),
                    "no leave could be signed; the file comes by this master"
                );
                Ok(None)
            }
        }
    }

    /// A file that its sender says is in the store, by leave that it had. Said twice it is kept once.
    ///
    /// # Errors
    /// Where the store has no such file or another one; nothing is recorded then.
    pub async fn keep(&self, incoming: Incoming, id: ArtifactId) -> Result<Artifact, ReceiveError> {
        let build = self.build_of(&incoming).await?;
        let given = self.ledger.lock().get(&id).filter(|given| given.is_of(&incoming)).cloned();
        let none = || ReceiveError::Broken(format!("nobody has leave {id} for {}", incoming.path));
        let given = given.ok_or_else(none)?;
        if given.is_kept {
            return self.store.artifact(id).await?.ok_or_else(none);
        }
        let found = match self.objects.stored(&given.key).await {
            Err(Error::NotFound { .. }) => {
                return Err(ReceiveError::Broken(format!("{} is not in the store", incoming.path)));
            }
            found => found?,
        };
        let sha256 = match found.sha256 {
            Some(sum) => sum,
            None if found.bytes == given.bytes => self.sum(&given.key).await?,
            None => String::new(),
        };
        if found.bytes != given.bytes || sha256 != given.sha256 {
            self.remove_objects(vec![given.key]).await;
            return Err(ReceiveError::Refused(format!(
                "{} is in the store as another file than was said",
                incoming.path
            )));
        }
        let artifact = Artifact {
            id,
            build: incoming.build,
            step: incoming.step,
            set: incoming.set,
            path: incoming.path,
            bytes: i64::try_from(given.bytes).unwrap_or(i64::MAX),
            sha256,
            key: given.key,
            created: self.clock.now(),
        };
        self.record_patiently(&artifact, &build.project).await?;
        if let Some(given) = self.ledger.lock().get_mut(&id) {
            given.is_kept = true;
        }
        Ok(artifact)
    }

    /// The checksum of an object, for stores that do not say it.
    async fn sum(&self, key: &str) -> Result<String, ReceiveError> {
        let mut bytes = self.objects.get(&Key::from(key)).await?.into_stream();
        let mut hash = Sha256::new();
        while let Some(piece) = bytes.next().await {
            hash.update(&piece?);
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Where an object of so many bytes can be read past the master; `None` where it is to be read here.
    ///
    /// # Errors
    /// Where the object store cannot be reached.
    pub async fn leave_to_read(&self, key: &str, bytes: i64) -> Result<Option<Signed>, ReceiveError> {
        if !self.objects.is_direct() || bytes.unsigned_abs() < DIRECT_LEAST_BYTES {
            return Ok(None);
        }
        Ok(Some(self.objects.leave_to_get(key).await?))
    }
}

/// So long an address is good; `SETTLED` is later by what the slowest sender needs.
const _: () = assert!(SETTLED.as_secs() > GOOD_FOR.as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    fn given(step: i64, bytes: u64) -> Given {
        Given {
            step: StepId(step),
            set: "debs".into(),
            path: "a.deb".into(),
            bytes,
            sha256: String::new(),
            key: format!("artifacts/1/1/{step}.{bytes}"),
            since: Instant::now(),
            is_kept: false,
        }
    }

    #[test]
    fn a_step_has_no_more_under_way_than_it_may_keep() {
        let ledger = Ledger::default();
        assert!(ledger.give(ArtifactId(1), given(1, 60), 100));
        assert!(!ledger.give(ArtifactId(2), given(1, 60), 100), "the same file again would be the second");
        assert!(ledger.give(ArtifactId(3), given(2, 60), 100));
        ledger.lock().get_mut(&ArtifactId(3)).unwrap().is_kept = true;
        assert_eq!(ledger.expired(Duration::from_secs(60)), Vec::<String>::new());
        assert_eq!(ledger.expired(Duration::ZERO), ["artifacts/1/1/1.60"], "what is kept stays");
        assert!(ledger.lock().is_empty());
    }
}
