//! What can be read, grouped by aggregate. Each call is one indexed query; nothing scans a table.

mod anew;
mod budgets;
mod builds;
mod caches;
mod configs;
mod decisions;
mod enrolments;
mod events;
mod logs;
mod offerings;
mod requests;
mod sources;
mod test_reports;
mod workers;

pub use builds::BuildFilter;
pub use requests::RequestFilter;
pub use workers::WorkerFilter;

use crate::value::Value;

/// One page by key: the next begins after the last id of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Ids below this one, newest first; `None` begins at the newest.
    pub before: Option<i64>,
    /// At most so many, 1 to 500.
    pub limit: i64,
}

impl Default for Page {
    fn default() -> Self {
        Self { before: None, limit: 50 }
    }
}

/// Builds the end of a query, condition by condition.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    conditions: Vec<String>,
    params: Vec<Value>,
}

impl Tail {
    /// `?` in the condition stands for the parameter.
    pub(crate) fn and(&mut self, condition: &str, param: impl Into<Value>) -> &mut Self {
        self.params.push(param.into());
        self.conditions.push(condition.replace('?', &format!("${}", self.params.len())));
        self
    }

    pub(crate) fn and_if<T: Into<Value>>(&mut self, condition: &str, param: Option<T>) -> &mut Self {
        if let Some(param) = param {
            self.and(condition, param);
        }
        self
    }

    pub(crate) fn plain(&mut self, condition: &str) -> &mut Self {
        self.conditions.push(condition.to_owned());
        self
    }

    /// Newest first, by id.
    pub(crate) fn page(mut self, page: Page) -> (String, Vec<Value>) {
        self.and_if("id < ?", page.before);
        self.params.push(Value::I64(page.limit.clamp(1, 500)));
        let limit = self.params.len();
        let conditions = if self.conditions.is_empty() {
            String::new()
        } else {
            format!("WHERE {} ", self.conditions.join(" AND "))
        };
        (format!("{conditions}ORDER BY id DESC LIMIT ${limit}"), self.params)
    }
}
