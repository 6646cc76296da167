//! What accounts have refused lately.

use crate::{ReadError, Store};
use rouse_model::offering::OfferingHealth;

impl Store {
    /// All that is known; few, as what was not asked for again is forgotten.
    pub async fn offering_health(&self) -> Result<Vec<OfferingHealth>, ReadError> {
        self.select_few("ORDER BY account, what", vec![]).await
    }
}
