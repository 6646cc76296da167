//! What somebody allows beyond the budget of a pool, for a time.

use crate::api::AppState;
use crate::api::auth::{Admin, Reader};
use crate::api::error::ApiError;
use crate::api::extract::{Asked, At, Sent};
use crate::api::listing::{Listing, PageQuery};
use crate::api::moment::Moment;
use crate::api::requests::{Cancel, wish};
use crate::budgets::{self, GrantError};
use crate::config::Period;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rouse_model::budget::BudgetGrant;
use rouse_model::money::Money;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// Nobody means to allow more for longer.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// What is allowed beyond a budget, why, and for how long.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Grant {
    /// In the configuration's currency.
    amount: f64,
    /// From now on, 31 days at most.
    seconds: f64,
    /// For whoever looks at it later.
    #[serde(default)]
    reason: Option<String>,
}

/// What was allowed beyond the budget of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetGrantView {
    pub id: i64,
    pub pool: String,
    /// In the configuration's currency; each limit of the budget is so much higher.
    pub amount: f64,
    pub granted: Moment,
    pub until: Moment,
    /// Who, and why where that was said.
    pub by: String,
}

impl From<BudgetGrant> for BudgetGrantView {
    fn from(grant: BudgetGrant) -> Self {
        Self {
            id: grant.id.0,
            pool: grant.pool,
            amount: grant.amount.as_f64(),
            granted: grant.granted.into(),
            until: grant.until.into(),
            by: grant.by,
        }
    }
}

/// Let a pool spend more than its budget for a time
///
/// Each limit of the budget is so much higher until then. It is on record who allowed it, and why.
#[utoipa::path(post, path = "/pools/{name}/grants", tag = "pools", params(("name" = String, Path)), request_body = Grant,
    security(("token" = ["admin"])), responses((status = CREATED, body = BudgetGrantView)))]
pub(super) async fn grant(
    Admin(caller): Admin,
    At(name): At<String>,
    State(state): State<AppState>,
    Sent(asked): Sent<Grant>,
) -> Result<(StatusCode, Json<BudgetGrantView>), ApiError> {
    caller.must_see_all()?;
    let active = state.ctx.config();
    let pool = active.config.pools.get(name.as_str());
    let pool = pool.ok_or_else(|| ApiError::not_found(format_args!("pool `{name}`")))?;
    if pool.budget.limits.is_empty() {
        return Err(ApiError::invalid(format!("pool `{name}` has no budget to go beyond")));
    }
    let amount = Money::from_f64(asked.amount).filter(|amount| *amount > Money::default());
    let amount = amount.ok_or_else(|| ApiError::invalid("`amount` must be a number above 0"))?;
    let length = Duration::try_from_secs_f64(asked.seconds).ok().filter(|length| !length.is_zero());
    let length = length.ok_or_else(|| ApiError::invalid("`seconds` must be a number above 0"))?;
    if length > LONGEST {
        let message = format!("{} is too long for a grant", Period(length));
        return Err(
            ApiError::invalid(message).help("at most 31d; for good, raise `budget` in the configuration")
        );
    }
    let by = wish(&caller, &Cancel { reason: asked.reason });
    let grant = budgets::grant(&state.ctx, &name, amount, length, by).await.map_err(not_granted)?;
    Ok((StatusCode::CREATED, Json(grant.into())))
}

fn not_granted(error: GrantError) -> ApiError {
    match error {
        GrantError::Read(error) => error.into(),
        GrantError::Commit(error) => error.into(),
    }
}

/// What was allowed beyond the budget of a pool, newest first
#[utoipa::path(get, path = "/pools/{name}/grants", tag = "pools", params(("name" = String, Path), PageQuery),
    responses((status = OK, body = Listing<BudgetGrantView>)))]
pub(super) async fn list(
    Reader(caller): Reader,
    At(name): At<String>,
    Asked(query): Asked<PageQuery>,
    State(state): State<AppState>,
) -> Result<Json<Listing<BudgetGrantView>>, ApiError> {
    caller.must_see_all()?;
    let page = query.page()?;
    let rows = state.ctx.store.budget_grants(&name, page).await?;
    Ok(Json(Listing::of(rows, page, |grant| grant.id.0, |grant| Some(grant.into()))))
}
