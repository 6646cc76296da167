//! Machines that may come as hosts of workers.

use crate::{ReadError, Store};
use rouse_model::enrolment::Enrolment;

impl Store {
    pub async fn enrolment(&self, account: &str, name: &str) -> Result<Option<Enrolment>, ReadError> {
        self.select_one("WHERE account = $1 AND name = $2", vec![account.into(), name.into()]).await
    }

    /// All that may come, and those that may not any more, by account and name.
    pub async fn enrolments(&self) -> Result<Vec<Enrolment>, ReadError> {
        self.select("ORDER BY account, name", vec![]).await
    }
}
