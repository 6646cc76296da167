//! A trace: when each piece of work arrived, and how long it ran.

use rouse_model::Timestamp;
use serde::Deserialize;
use std::io::Read;
use std::time::Duration;

/// Work in order of arrival; time begins at 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    pub jobs: Vec<Job>,
    /// Names of the kinds of worker that are asked for.
    pub classes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub arrives: Timestamp,
    pub takes: Duration,
    /// Which of the trace's classes.
    pub class: usize,
}

/// Why a file is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(
        "{file}: {source}; a trace is CSV with the columns `arrival_ms` and `duration_ms`, and `class` where it wants several kinds of worker"
    )]
    Csv {
        file: String,
        #[source]
        source: csv::Error,
    },
    #[error("{file}: there is no work in it")]
    Empty { file: String },
}

#[derive(Debug, Deserialize)]
struct Row {
    arrival_ms: u64,
    duration_ms: u64,
    class: Option<String>,
}

impl Trace {
    /// Reads CSV with a header: `arrival_ms` from any beginning, `duration_ms`, and, if wanted, `class`. In any order.
    ///
    /// # Errors
    /// Where a line cannot be understood, which is named, or none is there.
    pub fn read(file: &str, reader: impl Read) -> Result<Self, TraceError> {
        let mut trace = Self::default();
        let rows = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(reader);
        for row in rows.into_deserialize() {
            let row: Row = row.map_err(|source| TraceError::Csv { file: file.to_owned(), source })?;
            let class = trace.class(row.class.as_deref().unwrap_or("any"));
            trace.jobs.push(Job {
                arrives: Timestamp(0) + Duration::from_millis(row.arrival_ms),
                takes: Duration::from_millis(row.duration_ms),
                class,
            });
        }
        if trace.jobs.is_empty() {
            return Err(TraceError::Empty { file: file.to_owned() });
        }
        trace.jobs.sort_by_key(|job| job.arrives);
        Ok(trace)
    }

    /// The place of a class, which it has from then on.
    pub fn class(&mut self, name: &str) -> usize {
        let known = self.classes.iter().position(|class| class == name);
        known.unwrap_or_else(|| {
            self.classes.push(name.to_owned());
            self.classes.len() - 1
        })
    }

    /// All that workers do for it, in seconds.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.jobs.iter().map(|job| job.takes.as_secs_f64()).sum()
    }
}
