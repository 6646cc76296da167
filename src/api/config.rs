//! `/config`: the configuration in force, and applying it again.

use super::AppState;
use super::auth::{Admin, Operator, Reader};
use super::error::ApiError;
use super::extract::{Asked, At, Sent};
use super::listing::{Listing, PageQuery};
use super::moment::Moment;
use crate::config::{self, FaultRecord, Faults, Severity, SourceFile, diff};
use crate::revisions::{Applied, ApplyError, RevisionError, RollbackError};
use axum::Json;
use axum::extract::State;
use rouse_model::ConfigRevisionId;
use rouse_model::config_revision::ConfigRevision;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(revisions))
        .routes(routes!(revision))
        .routes(routes!(compare))
        .routes(routes!(rollback))
        .routes(routes!(check))
        .routes(routes!(plan))
        .routes(routes!(reload))
}

/// An applied configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigView {
    pub revision: i64,
    pub hash: String,
    /// Who applied it.
    pub author: String,
    pub effective: Moment,
    /// In the list of revisions: empty.
    pub files: Vec<FileView>,
}

/// One file of a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileView {
    /// Relative to the main file's folder; the main file comes first.
    pub name: String,
    pub text: String,
}

/// A fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FaultView {
    /// `C012`.
    pub code: String,
    /// False for a warning.
    pub error: bool,
    pub message: String,
    pub file: Option<String>,
    /// Counted from 1.
    pub line: Option<usize>,
    /// Counted from 1, in characters.
    pub column: Option<usize>,
    pub help: Vec<String>,
}

impl From<FaultRecord> for FaultView {
    fn from(fault: FaultRecord) -> Self {
        Self {
            code: fault.code,
            error: fault.severity == Severity::Error,
            message: fault.message,
            file: fault.file,
            line: fault.line,
            column: fault.column,
            help: fault.help,
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    pub ok: bool,
    pub errors: usize,
    pub warnings: usize,
    pub faults: Vec<FaultView>,
    /// The same with framed snippets, for a person.
    pub text: String,
}

impl CheckView {
    fn of(faults: &Faults) -> Self {
        Self {
            ok: faults.errors() == 0,
            errors: faults.errors(),
            warnings: faults.warnings(),
            faults: faults.records().into_iter().map(FaultView::from).collect(),
            text: faults.text(false),
        }
    }
}

/// What a reload would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// The revision in force, against which it is compared.
    pub base: i64,
    pub check: CheckView,
    /// Empty where nothing would change, and where the file has errors.
    pub changes: Vec<ConfigChangeView>,
}

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigChangeView {
    /// `pool`, `builder`, `server`.
    pub kind: String,
    pub name: String,
    /// `added`, `removed`, `changed`.
    pub change: String,
    /// One line for a person: `~ pool cloud  max 8 → 12`.
    pub sentence: String,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReloadView {
    pub revision: i64,
    /// False where the files are as they were.
    pub changed: bool,
    pub changes: Vec<ConfigChangeView>,
}

/// What differs between two applied configurations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiffView {
    pub from: i64,
    pub to: i64,
    /// Their texts are the same, byte for byte.
    pub same_text: bool,
    pub changes: Vec<ConfigChangeView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Pair {
    /// A revision.
    from: i64,
    /// Another one; the one in force where it is not given.
    #[serde(default)]
    to: Option<i64>,
}

/// Which revision to go back to.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rollback {
    revision: i64,
}

/// Files to check.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Files {
    /// The main file first.
    files: Vec<FileView>,
}

/// The configuration in force, with its text
#[utoipa::path(get, path = "/config", tag = "config", responses((status = OK, body = ConfigView)))]
async fn show(Reader(caller): Reader, State(state): State<AppState>) -> Result<Json<ConfigView>, ApiError> {
    caller.must_see_all()?;
    let id = state.ctx.config().revision;
    let revision = state.ctx.store.config_revision(id).await?;
    let revision = revision.ok_or_else(|| ApiError::not_found(format_args!("config revision {id}")))?;
    Ok(Json(view(revision, true)))
}

/// Applied configurations, newest first, without their texts
#[utoipa::path(get, path = "/config/revisions", tag = "config", params(PageQuery), responses((status = OK, body = Listing<ConfigView>)))]
async fn revisions(
    Reader(caller): Reader,
    Asked(query): Asked<PageQuery>,
    State(state): State<AppState>,
) -> Result<Json<Listing<ConfigView>>, ApiError> {
    caller.must_see_all()?;
    let page = query.page()?;
    let rows = state.ctx.store.config_revisions(page).await?;
    Ok(Json(Listing::of(rows, page, |r| r.id.0, |r| Some(view(r, false)))))
}

/// An applied configuration, with its text
#[utoipa::path(get, path = "/config/revisions/{id}", tag = "config", params(("id" = i64, Path)), responses((status = OK, body = ConfigView)))]
async fn revision(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<ConfigView>, ApiError> {
    caller.must_see_all()?;
    let row = state.ctx.store.config_revision(ConfigRevisionId(id)).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format_args!("config revision {id}")))?;
    Ok(Json(view(row, true)))
}

/// What differs between two applied configurations, object by object
#[utoipa::path(get, path = "/config/diff", tag = "config", params(Pair), responses((status = OK, body = DiffView)))]
async fn compare(
    Reader(caller): Reader,
    Asked(pair): Asked<Pair>,
    State(state): State<AppState>,
) -> Result<Json<DiffView>, ApiError> {
    caller.must_see_all()?;
    let revisions = &state.ctx.revisions;
    let from = revisions.get(ConfigRevisionId(pair.from)).await.map_err(unreadable)?;
    let to = match pair.to {
        Some(to) => revisions.get(ConfigRevisionId(to)).await.map_err(unreadable)?,
        None => state.ctx.config(),
    };
    Ok(Json(DiffView {
        from: from.revision.0,
        to: to.revision.0,
        same_text: from.hash == to.hash,
        changes: changes(&from.config, &to.config),
    }))
}

fn unreadable(error: RevisionError) -> ApiError {
    match error {
        RevisionError::Missing(id) => ApiError::not_found(format_args!("config revision {id}")),
        RevisionError::Read(_, error) => error.into(),
        error @ RevisionError::Unreadable(..) => ApiError::conflict(error.to_string()),
    }
}

fn view(revision: ConfigRevision, with_files: bool) -> ConfigView {
    let files: Vec<SourceFile> =
        if with_files { serde_json::from_str(&revision.sources).unwrap_or_default() } else { Vec::new() };
    ConfigView {
        revision: revision.id.0,
        hash: revision.hash,
        author: revision.author,
        effective: revision.effective.into(),
        files: files.into_iter().map(|file| FileView { name: file.name, text: file.text }).collect(),
    }
}

/// Check a configuration that is not this master's; nothing is changed
#[utoipa::path(post, path = "/config/check", tag = "config", request_body = Files, security(("token" = ["operate"])),
    responses((status = OK, body = CheckView)))]
async fn check(
    Operator(_caller): Operator,
    State(state): State<AppState>,
    Sent(sent): Sent<Files>,
) -> Result<Json<CheckView>, ApiError> {
    if sent.files.is_empty() {
        return Err(ApiError::invalid("`files` is empty").help("the main file comes first"));
    }
    let sources: Vec<SourceFile> = sent.files.into_iter().map(|f| SourceFile::new(f.name, f.text)).collect();
    Ok(Json(match config::parse(&sources, state.ctx.revisions.kinds()) {
        Ok(loaded) => CheckView::of(&loaded.warnings),
        Err(faults) => CheckView::of(&faults),
    }))
}

/// What a reload would change
#[utoipa::path(post, path = "/config/plan", tag = "config", security(("token" = ["operate"])), responses((status = OK, body = PlanView)))]
async fn plan(Operator(caller): Operator, State(state): State<AppState>) -> Result<Json<PlanView>, ApiError> {
    caller.must_see_all()?;
    let active = state.ctx.config();
    let base = active.revision.0;
    Ok(Json(match config::load(state.ctx.revisions.file(), state.ctx.revisions.kinds()) {
        Ok(loaded) => PlanView {
            base,
            check: CheckView::of(&loaded.warnings),
            changes: changes(&active.config, &loaded.config),
        },
        Err(faults) => PlanView { base, check: CheckView::of(&faults), changes: Vec::new() },
    }))
}

/// Read this master's file again and apply it, all or nothing
#[utoipa::path(post, path = "/config/reload", tag = "config", security(("token" = ["admin"])), responses((status = OK, body = ReloadView)))]
async fn reload(Admin(caller): Admin, State(state): State<AppState>) -> Result<Json<ReloadView>, ApiError> {
    caller.must_see_all()?;
    let before = state.ctx.config();
    let applied = state.ctx.revisions.reload(&caller.signature()).await.map_err(not_applied)?;
    Ok(Json(done(&state, &before.config, applied)))
}

/// Put an older configuration in force again, as a new revision
///
/// It holds until the master's own file is changed: what is read again is compared with what was last read from that file.
#[utoipa::path(post, path = "/config/rollback", tag = "config", request_body = Rollback, security(("token" = ["admin"])),
    responses((status = OK, body = ReloadView)))]
async fn rollback(
    Admin(caller): Admin,
    State(state): State<AppState>,
    Sent(sent): Sent<Rollback>,
) -> Result<Json<ReloadView>, ApiError> {
    caller.must_see_all()?;
    let before = state.ctx.config();
    let to = ConfigRevisionId(sent.revision);
    let applied = state.ctx.revisions.roll_back(to, &caller.signature()).await;
    let applied = applied.map_err(|error| match error {
        RollbackError::Missing(id) => ApiError::not_found(format_args!("config revision {id}")),
        error @ RollbackError::Unreadable(..) => ApiError::conflict(crate::supervisor::chain(&error)),
        RollbackError::Apply(error) => not_applied(error),
    })?;
    Ok(Json(done(&state, &before.config, applied)))
}

fn not_applied(error: ApplyError) -> ApiError {
    match error {
        ApplyError::Faults(faults) => {
            let check = serde_json::to_value(CheckView::of(&faults)).unwrap_or_default();
            ApiError::invalid(format!("the configuration has {}; nothing was changed", faults.counts()))
                .detail(check)
        }
        ApplyError::Read(error) => error.into(),
        ApplyError::Commit(error) => error.into(),
    }
}

fn done(state: &AppState, before: &config::Config, applied: Applied) -> ReloadView {
    let (revision, changed) = match applied {
        Applied::Unchanged(revision) => (revision, false),
        Applied::Changed(revision) => {
            state.ctx.nudges.all();
            (revision, true)
        }
    };
    let after = state.ctx.config();
    ReloadView { revision: revision.0, changed, changes: changes(before, &after.config) }
}

fn changes(old: &config::Config, new: &config::Config) -> Vec<ConfigChangeView> {
    let view = |change: config::ObjectChange| ConfigChangeView {
        sentence: change.to_string(),
        change: match change.change {
            config::ChangeKind::Added => "added",
            config::ChangeKind::Removed => "removed",
            config::ChangeKind::Changed(_) => "changed",
        }
        .to_owned(),
        kind: change.kind,
        name: change.name,
    };
    diff(old, new).into_iter().map(view).collect()
}
