//! Objects in a bucket: they can be written, read and removed there, and the newest that rows name are there.

use super::{Finding, Patient};
use crate::config::{Config, ObjectsConfig};
use crate::objects::{self, KeysOf, Objects, mend, said};
use crate::supervisor::chain;
use futures::StreamExt;
use futures::stream;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use rouse_store::backup;
use std::sync::Arc;

/// So many of the newest are asked for, and so many at once: each is a request that somebody pays.
const MOST: usize = 500;
const AT_ONCE: usize = 16;

pub(super) async fn objects(patient: &Patient, at: &ObjectsConfig, config: &Config) -> Vec<Finding> {
    if let Some(folder) = &patient.objects {
        let found =
            format!("the configuration has them in {}, and --objects in {}", at.url, folder.display());
        return vec![Finding::fail(
            "objects",
            found,
            "give one of them: the master does not start with both",
        )];
    }
    let keys = KeysOf { config: config.clone(), objects: at.clone() };
    let opened = match objects::bucket(at, Arc::new(keys)) {
        Ok(opened) => opened,
        Err(error) => {
            return vec![Finding::fail(
                "objects",
                chain(&error),
                "correct `server.objects` in the configuration",
            )];
        }
    };
    let Some(bucket) = opened.bucket() else { return Vec::new() };
    if let Err(error) = opened.probe(&format!("doctor.{}", std::process::id())).await {
        return vec![Finding::fail("objects", format!("{bucket}: {}", said(&error)), mend(bucket, &error))];
    }
    let Ok(mut named) = backup::named(&patient.database).await else {
        return vec![Finding::skip(
            "objects",
            format!("{bucket} can be written; what should be there stands in the database"),
        )];
    };
    let count = named.len();
    named.drain(..count.saturating_sub(MOST));
    let looked = named.len();
    let missing = missing(&opened, named).await;
    // A master that runs removes some while we look.
    let again = backup::named(&patient.database).await.unwrap_or_default();
    let missing: Vec<String> = missing.into_iter().filter(|key| again.contains(key)).collect();
    if missing.is_empty() {
        let found =
            format!("{bucket} can be written and read; of {count} objects the last {looked} are all there");
        return vec![Finding::ok("objects", found)];
    }
    let found = format!("{} of {looked} objects are not in {bucket}, as {}", missing.len(), missing[0]);
    let mend = "their logs and artifacts are lost, unless the bucket has older versions, or they lie in a folder from before";
    vec![Finding::fail("objects", found, mend)]
}

/// Those that are not there.
async fn missing(objects: &Objects, named: Vec<String>) -> Vec<String> {
    let looked = stream::iter(named).map(|key| async move {
        let found = objects.head(&Key::from(key.as_str())).await;
        matches!(found, Err(Error::NotFound { .. })).then_some(key)
    });
    looked.buffer_unordered(AT_ONCE).filter_map(|key| async { key }).collect().await
}
