//! Configurations as revisions: applied atomically, stored as rows, read again for builds and workers that were made under an older one.

use crate::config::{self, Config, Faults, Loaded, SourceFile};
use crate::ctx::{Active, Clock};
use rouse_contract::ProviderKind;
use rouse_model::ConfigRevisionId;
use rouse_model::config_revision::ConfigRevision;
use rouse_model::event::{EventKind, NewEvent};
use rouse_store::{Batch, CommitError, Page, ReadError, Store};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// How an author is written where a revision was read from the master's own file.
const FROM_FILE: &str = "file";

/// Why a configuration could not be applied. The one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the configuration has faults; nothing was changed")]
    Faults(Faults),
    #[error("read the applied configurations")]
    Read(#[from] ReadError),
    #[error("record the configuration")]
    Commit(#[from] CommitError),
}

/// Why an older configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    #[error("config revision {0} is not on record")]
    Missing(ConfigRevisionId),
    #[error("read config revision {0}")]
    Read(ConfigRevisionId, #[source] ReadError),
    #[error("config revision {0} cannot be understood by this version of Rouse: {1}")]
    Unreadable(ConfigRevisionId, String),
}

/// Why an older configuration could not be put in force again. The one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    #[error("config revision {0} is not on record")]
    Missing(ConfigRevisionId),
    #[error("config revision {0} cannot be read")]
    Unreadable(ConfigRevisionId, #[source] serde_json::Error),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The configuration in force and those before it.
#[derive(Debug)]
pub struct Revisions {
    store: Store,
    clock: Arc<dyn Clock>,
    kinds: Vec<Arc<dyn ProviderKind>>,
    file: PathBuf,
    active: watch::Sender<Arc<Active>>,
    older: Mutex<HashMap<ConfigRevisionId, Arc<Active>>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The files are as they were when they were last read.
    Unchanged(ConfigRevisionId),
    Changed(ConfigRevisionId),
}

impl Revisions {
    /// Reads the file and applies it if it is not the one that was last read from it; else the newest revision on record stays in force.
    ///
    /// # Errors
    /// Where the file has faults and nothing good is on record, or the store cannot be reached.
    pub async fn open(
        store: Store,
        clock: Arc<dyn Clock>,
        kinds: Vec<Arc<dyn ProviderKind>>,
        file: &Path,
    ) -> Result<Self, ApplyError> {
        let empty = Arc::new(Active {
            revision: ConfigRevisionId(0),
            hash: String::new(),
            config: Config::default(),
        });
        let revisions = Self {
            store,
            clock,
            kinds,
            file: file.to_owned(),
            active: watch::Sender::new(empty),
            older: Mutex::default(),
            one_at_a_time: tokio::sync::Mutex::default(),
        };
        let newest = revisions.store.newest_config().await?;
        if let Some(row) = &newest {
            match revisions.read_row(row) {
                Ok(active) => {
                    revisions.active.send_replace(active);
                    // The file has just been read, as it stands on record.
                    if row.author.starts_with(FROM_FILE) && config::hash_of(file).as_ref() == Some(&row.hash)
                    {
                        return Ok(revisions);
                    }
                }
                Err(error) => tracing::warn!(%error, "the newest configuration on record is of no use"),
            }
        }
        // Nothing else goes on in this process that reading it could hold up.
        let loaded = config::load(file, &revisions.kinds);
        match revisions.take(loaded, "start").await {
            Ok(_) => Ok(revisions),
            Err(ApplyError::Faults(faults)) if revisions.active.borrow().revision.0 != 0 => {
                eprintln!("{faults}");
                tracing::error!(
                    "the configuration file has faults; the last good one (revision {}) stays in force",
                    revisions.active.borrow().revision
                );
                Ok(revisions)
            }
            Err(error) => Err(error),
        }
    }

    /// This master's own main file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What pools can be made of.
    #[must_use]
    pub fn kinds(&self) -> &[Arc<dyn ProviderKind>] {
        &self.kinds
    }

    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Active>> {
        self.active.subscribe()
    }

    /// Puts in force what another master has applied.
    ///
    /// # Errors
    /// Where the store cannot be read, or the newest revision is of a version that this one does not understand.
    pub async fn follow(&self) -> Result<bool, RevisionError> {
        let _one = self.one_at_a_time.lock().await;
        let current = self.active.borrow().revision;
        let newest = self.store.newest_config().await.map_err(|e| RevisionError::Read(current, e))?;
        let Some(row) = newest.filter(|row| row.id > current) else { return Ok(false) };
        let active = self.read_row(&row)?;
        self.active.send_replace(active);
        tracing::info!(revision = %row.id, author = row.author, "another master has applied a configuration");
        Ok(true)
    }

    /// Reads the master's own file again.
    ///
    /// # Errors
    /// Where it has faults; the configuration in force stays.
    pub async fn reload(&self, by: &str) -> Result<Applied, ApplyError> {
        let _one = self.one_at_a_time.lock().await;
        let (file, kinds) = (self.file.clone(), self.kinds.clone());
        let loaded = tokio::task::spawn_blocking(move || config::load(&file, &kinds))
            .await
            .expect("reading a configuration does not panic");
        self.take(loaded, by).await
    }

    /// Applies what was read, unless it is what was last read.
    async fn take(&self, loaded: Result<Loaded, Faults>, by: &str) -> Result<Applied, ApplyError> {
        let loaded = loaded.map_err(ApplyError::Faults)?;
        let page = Page { before: None, limit: 200 };
        let last_read =
            self.store.config_revisions(page).await?.into_iter().find(|r| r.author.starts_with(FROM_FILE));
        let current = self.active.borrow().revision;
        if current.0 != 0 && last_read.is_some_and(|r| r.hash == loaded.hash) {
            return Ok(Applied::Unchanged(current));
        }
        self.apply(loaded, &format!("{FROM_FILE} ({by})")).await.map(Applied::Changed)
    }

    /// Puts an older revision in force again, as a new one. It holds until the master's file is changed.
    ///
    /// # Errors
    /// Where it is not there, or this version of Rouse does not take it any more; the configuration in force stays.
    pub async fn roll_back(&self, to: ConfigRevisionId, by: &str) -> Result<Applied, RollbackError> {
        let _one = self.one_at_a_time.lock().await;
        let row = self.store.config_revision(to).await.map_err(ApplyError::from)?;
        let row = row.ok_or(RollbackError::Missing(to))?;
        let current = self.active.borrow().clone();
        if current.hash == row.hash {
            return Ok(Applied::Unchanged(current.revision));
        }
        let sources: Vec<SourceFile> =
            serde_json::from_str(&row.sources).map_err(|e| RollbackError::Unreadable(to, e))?;
        let loaded = config::parse(&sources, &self.kinds).map_err(ApplyError::Faults)?;
        let applied = self.apply(loaded, &format!("rollback to {to}, {by}")).await?;
        Ok(Applied::Changed(applied))
    }

    async fn apply(&self, loaded: Loaded, author: &str) -> Result<ConfigRevisionId, ApplyError> {
        let now = self.clock.now();
        let row = ConfigRevision {
            id: self.store.next_id().await?,
            hash: loaded.hash.clone(),
            sources: serde_json::to_string(&loaded.sources).unwrap_or_default(),
            author: author.to_owned(),
            effective: now,
        };
        let mut batch = Batch::new("config.apply");
        batch.insert(&row).event(NewEvent {
            kind: EventKind::ConfigApplied,
            version: 1,
            subject: format!("config/{}", row.id),
            project: String::new(),
            at: now,
            payload: serde_json::json!({"hash": row.hash, "author": row.author}),
        });
        self.store.commit(batch).await?;
        self.active.send_replace(Arc::new(Active {
            revision: row.id,
            hash: loaded.hash,
            config: loaded.config,
        }));
        tracing::info!(revision = %row.id, author, "configuration applied");
        Ok(row.id)
    }

    /// The configuration of a revision.
    ///
    /// # Errors
    /// Where it is not there, or this version of Rouse does not understand it.
    pub async fn get(&self, id: ConfigRevisionId) -> Result<Arc<Active>, RevisionError> {
        let active = self.active.borrow().clone();
        if active.revision == id {
            return Ok(active);
        }
        if let Some(known) = self.older.lock().expect("nothing panics while it is held").get(&id) {
            return Ok(Arc::clone(known));
        }
        let row = self
            .store
            .config_revision(id)
            .await
            .map_err(|e| RevisionError::Read(id, e))?
            .ok_or(RevisionError::Missing(id))?;
        let read = self.read_row(&row)?;
        let mut older = self.older.lock().expect("nothing panics while it is held");
        // Few are in use at once; whoever needs another one reads it again.
        if older.len() >= 32 {
            older.clear();
        }
        older.insert(id, Arc::clone(&read));
        Ok(read)
    }

    fn read_row(&self, row: &ConfigRevision) -> Result<Arc<Active>, RevisionError> {
        let sources: Vec<SourceFile> = serde_json::from_str(&row.sources)
            .map_err(|e| RevisionError::Unreadable(row.id, e.to_string()))?;
        let loaded = config::parse(&sources, &self.kinds)
            .map_err(|e| RevisionError::Unreadable(row.id, e.to_string()))?;
        Ok(Arc::new(Active { revision: row.id, hash: row.hash.clone(), config: loaded.config }))
    }
}
