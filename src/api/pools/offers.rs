//! What a pool's workers may be launched as, and what of it its accounts have refused lately.

use crate::api::moment::Moment;
use crate::config::PoolConfig;
use rouse_model::offering::{OfferingHealth, Wants};
use rouse_store::{ReadError, Store};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that a worker of a pool may be launched as.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OfferingView {
    /// The place of its offer, from 1: a later one is taken when all of those before have been refused for their time.
    pub offer: usize,
    pub name: String,
    /// What one worker costs, as it is written: `0.17 USD/h`; null where nothing is counted.
    pub price: Option<String>,
    /// Seconds for which its offer must have been refused before the next is taken; null: none.
    pub try_for: Option<f64>,
}

/// Something that an account does not give us.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedView {
    pub account: String,
    /// For a person: `no capacity for spot`.
    pub what: String,
    /// What of the pool's offerings that concerns; empty where it has none.
    pub offerings: Vec<String>,
    /// Without a break since then; null where it could be had since, and few find out how much of it there is.
    pub since: Option<Moment>,
    /// One after the other.
    pub failures: i64,
    /// Nobody asks for it before that; then one launch finds out.
    pub until: Moment,
}

pub(super) fn offerings(pool: &PoolConfig) -> Vec<OfferingView> {
    let offers = (1..).zip(&pool.offers);
    let all = offers.flat_map(|(place, offer)| offer.of.iter().map(move |one| (place, offer.try_for, one)));
    let view = |(offer, try_for, one): (usize, Option<std::time::Duration>, &rouse_contract::Offering)| {
        let price = one.price.or(pool.price).map(|price| price.to_string());
        let try_for = try_for.map(|time| time.as_secs_f64());
        OfferingView { offer, name: one.name.clone(), price, try_for }
    };
    all.map(view).collect()
}

pub(super) async fn refused(
    store: &Store,
    name: &str,
    pool: &PoolConfig,
) -> Result<Vec<RefusedView>, ReadError> {
    let concerned = |row: &OfferingHealth| {
        let wanted = pool.offerings().filter(|one| row.wanted_by.contains(&Wants::Named(one.name.clone())));
        wanted.map(|one| one.name.clone()).collect::<Vec<_>>()
    };
    let unnamed = [Wants::OfPool(name.to_owned()), Wants::Unnamed];
    let rows = store.offering_health().await?.into_iter();
    let rows = rows.filter(|row| pool.on.iter().any(|account| account.as_str() == row.account));
    let view = |row: OfferingHealth| {
        let offerings = concerned(&row);
        let is_its = match pool.offers.is_empty() {
            true => unnamed.iter().any(|wants| row.wanted_by.contains(wants)),
            false => !offerings.is_empty(),
        };
        is_its.then(|| RefusedView {
            account: row.account,
            what: row.what.to_string(),
            offerings,
            since: row.refused_since.map(Moment),
            failures: row.failures,
            until: row.until.into(),
        })
    };
    Ok(rows.filter_map(view).collect())
}
