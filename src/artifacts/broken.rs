//! Files on their way in, and those whose sender broke off: kept for a while as far as they came, so that the sender goes on from there.
//!
//! They live in memory and in the object store's own unfinished uploads: a master that ends forgets them, and the sender begins again.

use super::{Incoming, ReceiveError};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use object_store::WriteMultipart;
use rouse_model::{ArtifactId, BuildId, StepId};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than an agent tries without getting any further.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// A part holds a few MiB of memory; the oldest go beyond this many.
const MOST: usize = 16;
/// Pieces of an upload that may be on their way to the object store.
const IN_FLIGHT: usize = 4;

/// One file as far as it has come.
pub(super) struct Part {
    id: ArtifactId,
    key: String,
    upload: WriteMultipart,
    hash: Sha256,
    bytes: u64,
    /// What the sender said of the whole.
    said: Option<String>,
    since: Instant,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("key", &self.key).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Part {
    pub(super) fn new(id: ArtifactId, key: String, upload: WriteMultipart, said: Option<String>) -> Self {
        Self { id, key, upload, hash: Sha256::new(), bytes: 0, said, since: Instant::now() }
    }

    /// The sender goes on exactly where it broke, with the same file.
    pub(super) fn fits(&self, incoming: &Incoming) -> bool {
        self.bytes == incoming.from && self.said == incoming.sha256
    }

    pub(super) async fn abort(self) {
        // What cannot be removed is found by nobody and harms nobody.
        let _ = self.upload.abort().await;
    }
}

type Name = (BuildId, StepId, String, String);

fn name_of(incoming: &Incoming) -> Name {
    (incoming.build, incoming.step, incoming.set.clone(), incoming.path.clone())
}

/// Parts without a sender.
#[derive(Debug, Default)]
pub(super) struct Broken {
    parts: Mutex<HashMap<Name, Part>>,
}

impl Broken {
    pub(super) fn bytes(&self, incoming: &Incoming) -> Option<u64> {
        let parts = self.parts.lock().expect("nothing panics while it is held");
        parts
            .get(&name_of(incoming))
            .filter(|part| part.said == incoming.sha256 || incoming.sha256.is_none())
            .map(|part| part.bytes)
    }

    pub(super) fn take(&self, incoming: &Incoming) -> Option<Part> {
        self.parts.lock().expect("nothing panics while it is held").remove(&name_of(incoming))
    }

    /// Those that nobody came back for, and the oldest where there are too many.
    pub(super) fn expired(&self) -> Vec<Part> {
        let mut parts = self.parts.lock().expect("nothing panics while it is held");
        let mut old: Vec<Name> = parts
            .iter()
            .filter(|(_, part)| part.since.elapsed() > KEPT)
            .map(|(name, _)| name.clone())
            .collect();
        let mut left: Vec<(Instant, Name)> =
            parts.iter().map(|(name, part)| (part.since, name.clone())).collect();
        left.sort();
        let surplus = left.len().saturating_sub(MOST);
        old.extend(left.into_iter().take(surplus).map(|(_, name)| name));
        old.into_iter().filter_map(|name| parts.remove(&name)).collect()
    }

    fn keep(&self, name: Name, part: Part) {
        self.parts.lock().expect("nothing panics while it is held").insert(name, part);
    }
}

/// A file that is being received. However that ends, what has come is kept, unless it is finished or aborted.
#[derive(Debug)]
pub(super) struct Taking {
    part: Option<Part>,
    name: Name,
    broken: Arc<Broken>,
}

impl Drop for Taking {
    fn drop(&mut self) {
        if let Some(mut part) = self.part.take()
            && part.bytes > 0
        {
            part.since = Instant::now();
            self.broken.keep(self.name.clone(), part);
        }
    }
}

impl Taking {
    pub(super) fn new(part: Part, incoming: &Incoming, broken: &Arc<Broken>) -> Self {
        Self { part: Some(part), name: name_of(incoming), broken: Arc::clone(broken) }
    }

    /// Takes all that comes, up to `most` bytes of the file.
    pub(super) async fn take<E: fmt::Display>(
        &mut self,
        incoming: &Incoming,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
        most: u64,
    ) -> Result<(), ReceiveError> {
        let Some(part) = &mut self.part else { return Ok(()) };
        let mut body = std::pin::pin!(body);
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| ReceiveError::Broken(error.to_string()))?;
            if part.bytes + piece.len() as u64 > most {
                return Err(ReceiveError::Refused(format!(
                    "{} has more than the {most} bytes that are left for the files of its step",
                    incoming.path
                )));
            }
            part.upload.wait_for_capacity(IN_FLIGHT).await?;
            part.bytes += piece.len() as u64;
            part.hash.update(&piece);
            part.upload.put(piece);
        }
        Ok(())
    }

    /// The whole file is in the object store: its id, key, size and hash.
    pub(super) async fn finish(
        mut self,
        incoming: &Incoming,
    ) -> Result<(ArtifactId, String, u64, String), ReceiveError> {
        let Some(part) = self.part.take() else { return Err(ReceiveError::Broken("it is gone".into())) };
        let Part { id, key, upload, hash, bytes, .. } = part;
        let sha256 = hex::encode(hash.finalize());
        if incoming.sha256.as_ref().is_some_and(|said| !said.eq_ignore_ascii_case(&sha256)) {
            let _ = upload.abort().await;
            return Err(ReceiveError::Broken(format!("{} arrived damaged", incoming.path)));
        }
        upload.finish().await?;
        Ok((id, key, bytes, sha256))
    }

    pub(super) async fn abort(mut self) {
        if let Some(part) = self.part.take() {
            part.abort().await;
        }
    }
}
