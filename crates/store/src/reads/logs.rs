//! Logs and their segments.

use crate::{ReadError, Store};
use rouse_model::logs::{Log, LogSegment};
use rouse_model::{BuildId, LogId};

impl Store {
    pub async fn log(&self, id: LogId) -> Result<Option<Log>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    pub async fn logs_of(&self, build: BuildId) -> Result<Vec<Log>, ReadError> {
        self.select("WHERE build = $1 ORDER BY id", vec![build.0.into()]).await
    }

    pub async fn segments(&self, log: LogId) -> Result<Vec<LogSegment>, ReadError> {
        self.select("WHERE log = $1 ORDER BY seq", vec![log.0.into()]).await
    }

    /// The one that reaches farthest.
    pub async fn last_segment(&self, log: LogId) -> Result<Option<LogSegment>, ReadError> {
        self.select_one("WHERE log = $1 ORDER BY seq DESC LIMIT 1", vec![log.0.into()]).await
    }
}
