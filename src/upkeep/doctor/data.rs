//! What is kept: the database, the objects that it names, and whether time stands in it as it does here.

use super::{Finding, Patient};
use crate::supervisor::chain;
use rouse_store::backup::{self, BackupError};
use rouse_store::{Facts, Location};
use std::path::Path;

/// A database's clock may differ so far.
const SKEW: i64 = 5_000_000;
/// What is written so far in the future was written by a wrong clock.
const FUTURE: i64 = 60_000_000;

/// Says how the database is, and answers its facts.
pub(super) async fn database(patient: &Patient, findings: &mut Vec<Finding>) -> Option<Facts> {
    let known = match backup::known(&patient.database).await {
        Ok(Some(known)) => known,
        Ok(None) => {
            findings.push(Finding::ok("database", "none yet; the first start of a master makes it"));
            return None;
        }
        Err(error) => {
            findings.push(unsound(patient, &error));
            return None;
        }
    };
    let newest = backup::schema();
    if known.schema > newest {
        let found = format!("it has schema {}, newer than {newest}", known.schema);
        findings.push(Finding::fail("database", found, "use the newer version of Rouse"));
        return None;
    }
    if let Err(error) = backup::check(&patient.database).await {
        findings.push(unsound(patient, &error));
        return Some(known.facts);
    }
    let (what, size) = match &patient.database {
        Location::Sqlite(path) => ("SQLite", std::fs::metadata(path).map(|meta| meta.len()).ok()),
        Location::Postgres(_) => ("PostgreSQL", backup::bytes(&patient.database).await.ok()),
    };
    let size = size.map_or_else(String::new, |bytes| format!(", {} MiB", bytes >> 20));
    let (facts, schema) = (known.facts, known.schema);
    let found = format!(
        "{what}, sound{size}; installation {}, store epoch {}, schema {schema}",
        facts.installation, facts.store_epoch
    );
    findings.push(Finding::ok("database", found));
    Some(facts)
}

fn unsound(patient: &Patient, error: &BackupError) -> Finding {
    let mend = match (&patient.database, error) {
        (_, BackupError::Unsound(_)) => "restore a backup: rouse restore DIR --replace",
        (Location::Sqlite(_), _) => "run as the user that the master runs as; look at the disk",
        (Location::Postgres(_), _) => {
            "see that the server runs, and that --database names it, its user and its password"
        }
    };
    Finding::fail("database", chain(error), mend)
}

/// Objects can be written, read and removed, and those that rows name are there.
pub(super) async fn objects(patient: &Patient) -> Vec<Finding> {
    let folder = &patient.objects.clone().unwrap_or_else(|| patient.state.join(crate::objects::FOLDER));
    if !folder.is_dir() {
        return vec![Finding::ok("objects", "none yet; the first start of a master makes the folder")];
    }
    let probe = folder.join(format!("doctor.{}", std::process::id()));
    let tried = std::fs::write(&probe, "probe")
        .and_then(|()| std::fs::read(&probe))
        .and_then(|_| std::fs::remove_file(&probe));
    if let Err(error) = tried {
        let mend =
            "run as the user that the master runs as; look at the disk, and at the folder's owner and mode";
        return vec![Finding::fail("objects", format!("{}: {error}", folder.display()), mend)];
    }
    let Ok(named) = backup::named(&patient.database).await else {
        return vec![Finding::skip("objects", "what should be there stands in the database")];
    };
    let (count, (bytes, missing)) = (named.len(), look(folder, named));
    // A master that runs removes some while we look.
    let again = backup::named(&patient.database).await.unwrap_or_default();
    let missing: Vec<String> = missing.into_iter().filter(|key| again.contains(key)).collect();
    if missing.is_empty() {
        let found = format!("{count} objects of logs and artifacts, {} MiB; all are there", bytes >> 20);
        return vec![Finding::ok("objects", found)];
    }
    let found = format!("{} of {count} objects are not there, as {}", missing.len(), missing[0]);
    vec![Finding::fail(
        "objects",
        found,
        "their logs and artifacts are lost; they are in a backup, if anywhere",
    )]
}

/// How large they are together, and those that are not there.
fn look(folder: &Path, named: Vec<String>) -> (u64, Vec<String>) {
    let (mut bytes, mut missing) = (0, Vec::new());
    for key in named {
        match std::fs::metadata(folder.join(&key)) {
            Ok(meta) => bytes += meta.len(),
            Err(_) => missing.push(key),
        }
    }
    (bytes, missing)
}

pub(super) async fn clock(patient: &Patient) -> Finding {
    let mend = "set this machine's clock, and let it follow a time server";
    let (theirs, newest) = match backup::clock(&patient.database).await {
        Ok(told) => told,
        Err(_) => return Finding::skip("clock", "the database does not tell"),
    };
    let seconds = |micros: i64| micros / 1_000_000;
    if let Some(skew) = theirs.map(|theirs| patient.now - theirs).filter(|skew| skew.abs() > SKEW) {
        let found = format!("it differs from the database's by {} s", seconds(skew));
        return Finding::fail("clock", found, mend);
    }
    if let Some(ahead) = newest.map(|newest| newest - patient.now).filter(|ahead| *ahead > FUTURE) {
        let found = format!("the newest event lies {} s in the future", seconds(ahead));
        return Finding::fail("clock", found, mend);
    }
    Finding::ok(
        "clock",
        match theirs {
            Some(_) => "as the database's",
            None => "nothing in the database is of the future; there is no other clock to compare with",
        },
    )
}
