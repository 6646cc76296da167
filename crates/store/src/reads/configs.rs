//! Config revisions, plans, roles and tokens.

use super::{Page, Tail};
use crate::{ReadError, Store};
use rouse_model::ConfigRevisionId;
use rouse_model::config_revision::{ApiToken, ConfigRevision, PlanRow};
use rouse_model::master::Role;

impl Store {
    pub async fn config_revision(&self, id: ConfigRevisionId) -> Result<Option<ConfigRevision>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    /// The one in force.
    pub async fn newest_config(&self) -> Result<Option<ConfigRevision>, ReadError> {
        self.select_one("ORDER BY id DESC LIMIT 1", vec![]).await
    }

    /// Newest first.
    pub async fn config_revisions(&self, page: Page) -> Result<Vec<ConfigRevision>, ReadError> {
        let (tail, params) = Tail::default().page(page);
        self.select(&tail, params).await
    }

    pub async fn plan(&self, hash: &str) -> Result<Option<PlanRow>, ReadError> {
        self.select_one("WHERE hash = $1", vec![hash.into()]).await
    }

    pub async fn roles(&self) -> Result<Vec<Role>, ReadError> {
        self.select("ORDER BY role, shard", vec![]).await
    }

    pub async fn api_token(&self, sha256: &str) -> Result<Option<ApiToken>, ReadError> {
        self.select_one("WHERE sha256 = $1", vec![sha256.into()]).await
    }

    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>, ReadError> {
        self.select("ORDER BY id", vec![]).await
    }
}
