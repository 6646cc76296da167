//! `/machines`: machines that somebody else starts, and that may come as hosts of workers. A key is shown once, when it is made.

use super::AppState;
use super::auth::{Admin, Reader};
use super::error::ApiError;
use super::extract::{At, Sent};
use super::listing::Listing;
use super::moment::Moment;
use crate::config::Config;
use crate::machines::{end_workers, event};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ed25519_dalek::SigningKey;
use rouse_model::enrolment::Enrolment;
use rouse_model::ids::check_name;
use rouse_store::Batch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const KIND: &str = "enrolled";
/// Of the document, as the machine reads it.
const VERSION: u32 = 1;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, enroll)).routes(routes!(revoke))
}

/// A machine that may come, or was let go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MachineView {
    /// The account whose machine it is.
    pub account: String,
    pub name: String,
    pub enrolled: Moment,
    /// Who enrolled it.
    pub by: String,
    /// Since when it may not come any more.
    pub revoked: Option<Moment>,
    /// To this master.
    pub connected: bool,
    /// What it is, while it is connected: `linux x86_64`.
    pub system: Option<String>,
}

/// Which machine may come.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// An account of kind `enrolled`.
    account: String,
    /// Unique within the account.
    name: String,
    /// How the machine sees the master's listener for agents, `HOST:PORT`; absent: as workers of the account's pools do (`server.agents.advertise`).
    #[serde(default)]
    address: Option<String>,
}

/// What the machine must be given: the only time that its key is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentView {
    pub version: u32,
    pub installation: String,
    pub account: String,
    pub name: String,
    /// Secret.
    pub key: String,
    /// Where it comes to.
    pub address: String,
    /// Who vouches for whoever answers there, as PEM.
    pub ca: String,
}

fn view(state: &AppState, row: &Enrolment) -> MachineView {
    let standing = state.ctx.machines.standing(&row.account, &row.name);
    MachineView {
        account: row.account.clone(),
        name: row.name.clone(),
        enrolled: row.enrolled.into(),
        by: row.enrolled_by.clone(),
        revoked: row.revoked.map(Moment),
        connected: standing.connected,
        system: standing.system,
    }
}

/// Enrolled machines, by account and name
#[utoipa::path(get, path = "/machines", tag = "workers", responses((status = OK, body = Listing<MachineView>)))]
async fn list(
    Reader(caller): Reader,
    State(state): State<AppState>,
) -> Result<Json<Listing<MachineView>>, ApiError> {
    caller.must_see_all()?;
    let rows = state.ctx.store.enrolments().await?;
    Ok(Json(Listing::whole(rows.iter().map(|row| view(&state, row)).collect())))
}

/// Enrol a machine: what is answered lets it come as a host of workers
#[utoipa::path(post, path = "/machines", tag = "workers", request_body = Wanted, security(("token" = ["admin"])),
    responses((status = CREATED, body = EnrolmentView)))]
async fn enroll(
    Admin(caller): Admin,
    State(state): State<AppState>,
    Sent(wanted): Sent<Wanted>,
) -> Result<(StatusCode, Json<EnrolmentView>), ApiError> {
    caller.must_see_all()?;
    let ctx = &state.ctx;
    check_name(&wanted.name)
        .map_err(|why| ApiError::invalid(format!("the name `{}` is refused: {why}", wanted.name)))?;
    let active = ctx.config();
    let address = address(&active.config, &wanted)?;
    let before = ctx.store.enrolment(&wanted.account, &wanted.name).await?;
    if before.as_ref().is_some_and(|row| row.revoked.is_none()) {
        let message = format!("machine `{}` of `{}` is enrolled already", wanted.name, wanted.account);
        let help = format!("revoke it first: rouse worker revoke {} --on {}", wanted.name, wanted.account);
        return Err(ApiError::conflict(message).help(help));
    }
    let key = SigningKey::from_bytes(&rand::random());
    let mut row = Enrolment {
        account: wanted.account,
        name: wanted.name,
        public_key: hex::encode(key.verifying_key().to_bytes()),
        enrolled: ctx.now(),
        enrolled_by: caller.signature(),
        revoked: None,
        generation: before.as_ref().map_or(0, |row| row.generation),
    };
    let mut batch = Batch::new("machine.enroll");
    match before {
        Some(_) => batch.update(&mut row),
        None => batch.insert(&row),
    };
    batch.event(event(ctx, &row.account, &row.name, "enrolled", &row.enrolled_by));
    match ctx.store.commit(batch).await {
        Ok(()) => {}
        Err(error) if error.is_duplicate() || error.is_conflict() => {
            return Err(ApiError::conflict(format!("machine `{}` was enrolled meanwhile", row.name)));
        }
        Err(error) => return Err(error.into()),
    }
    let document = EnrolmentView {
        version: VERSION,
        installation: ctx.store.facts().installation.clone(),
        account: row.account,
        name: row.name,
        key: hex::encode(key.to_bytes()),
        address,
        ca: ctx.authority.pem().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(document)))
}

/// Where it is to come to.
fn address(config: &Config, wanted: &Wanted) -> Result<String, ApiError> {
    let account = config.providers.get(wanted.account.as_str()).filter(|account| account.kind == KIND);
    if account.is_none() {
        let message = format!("there is no account `{}` of enrolled machines", wanted.account);
        let help = format!("write `providers: {{{}: {{enrolled: {{}}}}}}` and a pool on it", wanted.account);
        return Err(ApiError::invalid(message).help(help));
    }
    if let Some(address) = &wanted.address {
        return match address.parse::<crate::config::HostPort>() {
            Ok(address) => Ok(address.to_string()),
            Err(error) => Err(ApiError::invalid(format!("the address `{address}`: {error}"))),
        };
    }
    let on = config.pools.iter().filter(|(_, pool)| pool.on.iter().any(|on| on.as_str() == wanted.account));
    let told = on.filter_map(|(name, _)| config.server.agents.address(name.as_str())).next();
    told.map(ToString::to_string).ok_or_else(|| {
        let message = format!("how machines of `{}` see this master is not known", wanted.account);
        let help = "say it with --at HOST:PORT, or for the account's pools: `server: {agents: {advertise: {POOL: HOST:PORT}}}`";
        ApiError::invalid(message).help(help)
    })
}

/// Revoke a machine: it gets no more workers, those that it has end, and it may not come again
#[utoipa::path(delete, path = "/machines/{account}/{name}", tag = "workers",
    params(("account" = String, Path), ("name" = String, Path)), security(("token" = ["admin"])),
    responses((status = ACCEPTED, body = MachineView)))]
async fn revoke(
    Admin(caller): Admin,
    At((account, name)): At<(String, String)>,
    State(state): State<AppState>,
) -> Result<(StatusCode, Json<MachineView>), ApiError> {
    caller.must_see_all()?;
    let ctx = &state.ctx;
    let unknown = || ApiError::not_found(format_args!("machine `{name}` of `{account}`"));
    let mut row = ctx.store.enrolment(&account, &name).await?.ok_or_else(unknown)?;
    let revoked = row.revoked.unwrap_or_else(|| ctx.now());
    if row.revoked.is_none() {
        row.revoked = Some(revoked);
        let mut batch = Batch::new("machine.revoke");
        batch.update(&mut row);
        batch.event(event(ctx, &account, &name, "revoked", &caller.signature()));
        match ctx.store.commit(batch).await {
            Ok(()) => {}
            Err(error) if error.is_conflict() => {
                return Err(
                    ApiError::conflict(format!("machine `{name}` changes at this moment")).help("try again")
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    ctx.machines.revoke(&account, &name);
    end_workers(ctx, &account, &name, revoked).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&state, &row))))
}
