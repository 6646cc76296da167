//! The event log. Readers see numbered rows only, so nobody skips one that was committed late.

use crate::record::taken;
use crate::value::{Malformed, Value};
use crate::{ReadError, Row, Store};
use rouse_model::cursor::Cursor;
use rouse_model::event::{Event, EventKind, NewEvent};
use rouse_model::{ConfigRevisionId, Timestamp, WorkerId};

const EVENTS: &str = "events";
/// The longest page.
const MOST: i64 = 10_000;

impl Store {
    /// At most `limit` events with numbers above `cursor`, in order; fewer only where the log ends. Kinds that this version does not know are
    /// left out, however many there are in a row: a reader whose page held nothing else would stand still for ever.
    pub async fn events_after(&self, cursor: i64, limit: i64) -> Result<Vec<Event>, ReadError> {
        let limit = usize::try_from(limit.clamp(1, MOST)).unwrap_or(1);
        let mut events = Vec::new();
        let mut cursor = cursor;
        loop {
            let rows = self
                .query(
                    "SELECT seq, kind, version, subject, project, at, payload FROM events WHERE seq > $1 ORDER BY seq LIMIT $2",
                    vec![cursor.into(), i64::try_from(limit - events.len()).unwrap_or(1).into()],
                )
                .await?;
            let at_end = rows.len() < limit - events.len();
            for row in rows {
                if let Some(Value::I64(seq)) = row.first() {
                    cursor = *seq;
                }
                events.extend(event(row)?);
            }
            if at_end || events.len() == limit {
                return Ok(events);
            }
        }
    }

    /// At most `limit` events of one kind with numbers above `cursor`, in order: for those who follow one thing through a log of everything.
    pub async fn events_of_kind_after(
        &self,
        kind: EventKind,
        cursor: i64,
        limit: i64,
    ) -> Result<Vec<Event>, ReadError> {
        // The kind stands in the text, as in the condition of its index: so the database knows that it may use it.
        let sql = format!(
            "SELECT seq, kind, version, subject, project, at, payload FROM events WHERE kind = '{}' AND seq > $1 ORDER BY seq LIMIT $2",
            word(kind)
        );
        let rows = self.query(&sql, vec![cursor.into(), limit.into()]).await?;
        rows.into_iter().filter_map(|row| event(row).map_err(ReadError::from).transpose()).collect()
    }

    /// The number of the event by which a config revision took effect; `None` where it is not kept, or not numbered yet.
    pub async fn event_of_config(&self, revision: ConfigRevisionId) -> Result<Option<i64>, ReadError> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE subject = $1 AND kind = 'config_applied'";
        let seq = self.edge(sql, vec![format!("config/{revision}").as_str().into()]).await?;
        Ok((seq > 0).then_some(seq))
    }

    /// What happened to a worker, in order, from the beginning; its last few hundred events where it has more.
    pub async fn events_of_worker(&self, worker: WorkerId) -> Result<Vec<Event>, ReadError> {
        let rows = self
            .query(
                // The kinds are those of the index, in its words: so the database knows that it may use it.
                "SELECT seq, kind, version, subject, project, at, payload FROM events WHERE subject = $1 \
                 AND kind IN ('worker_phase', 'worker_link', 'worker_wanted') AND seq IS NOT NULL ORDER BY seq DESC LIMIT 500",
                vec![format!("worker/{worker}").as_str().into()],
            )
            .await?;
        let mut events: Vec<Event> = rows
            .into_iter()
            .filter_map(|row| event(row).map_err(ReadError::from).transpose())
            .collect::<Result<_, _>>()?;
        events.reverse();
        Ok(events)
    }

    /// How far a reader has come; `None` where it has not begun.
    pub async fn cursor(&self, reader: &str) -> Result<Option<Cursor>, ReadError> {
        self.select_one("WHERE reader = $1", vec![reader.into()]).await
    }

    /// The number of the newest event; 0 where there is none.
    pub async fn newest_event(&self) -> Result<i64, ReadError> {
        self.edge("SELECT COALESCE(MAX(seq), 0) FROM events", vec![]).await
    }

    /// The number of the oldest event that is still kept; 0 where there is none.
    pub async fn oldest_event(&self) -> Result<i64, ReadError> {
        self.edge("SELECT COALESCE(MIN(seq), 0) FROM events", vec![]).await
    }

    async fn edge(&self, sql: &str, params: Vec<Value>) -> Result<i64, ReadError> {
        let cell = self.query(sql, params).await?.into_iter().flatten().next();
        Ok(taken(EVENTS, "seq", cell)?)
    }
}

/// A kind as it is written.
fn word(kind: EventKind) -> String {
    serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn event(row: Row) -> Result<Option<Event>, Malformed> {
    let mut cells = row.into_iter();
    let seq = taken(EVENTS, "seq", cells.next())?;
    let kind: String = taken(EVENTS, "kind", cells.next())?;
    let Ok(kind) = serde_json::from_value::<EventKind>(serde_json::Value::String(kind)) else {
        return Ok(None);
    };
    let version = taken(EVENTS, "version", cells.next())?;
    let subject = taken(EVENTS, "subject", cells.next())?;
    let project = taken(EVENTS, "project", cells.next())?;
    let at: Timestamp = taken(EVENTS, "at", cells.next())?;
    let payload: String = taken(EVENTS, "payload", cells.next())?;
    let payload = serde_json::from_str(&payload).map_err(|e| Malformed {
        table: EVENTS,
        column: "payload",
        found: e.to_string(),
    })?;
    Ok(Some(Event { seq, body: NewEvent { kind, version, subject, project, at, payload } }))
}
