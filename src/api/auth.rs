//! Who calls, and what they may do: bearer tokens, of which the store keeps the SHA-256, each with a role and perhaps a project.
//!
//! Which role an operation needs stands in its handler's arguments, and in the OpenAPI document; a test compares the two.

mod first;

pub use first::{FirstTokenError, TOKEN_FILE, ensure_first_token};

use super::AppState;
use super::error::{ApiError, ErrorCode};
use super::words::Role;
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rouse_model::config_revision::ApiToken;
use sha2::{Digest, Sha256};
use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, OpenApi};

/// The name under which the document knows bearer tokens.
const SCHEME: &str = "token";
/// What a browser offers as a sub-protocol of its WebSocket to carry a token, since it can set no header.
pub(super) const PROTOCOL_PREFIX: &str = "rouse.token.";

/// Whoever holds a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub name: String,
    pub role: Role,
    /// The one project that it may see; `None`: all.
    pub project: Option<String>,
}

impl Caller {
    /// Whether what belongs to this project may be seen; the empty one is the installation's own.
    pub(super) fn sees(&self, project: &str) -> bool {
        self.project.as_deref().is_none_or(|mine| mine == project)
    }

    /// An item that may not be seen is not there, as far as the caller can tell.
    pub(super) fn must_see(&self, project: &str, what: impl std::fmt::Display) -> Result<(), ApiError> {
        if self.sees(project) { Ok(()) } else { Err(ApiError::not_found(what)) }
    }

    /// For what concerns the whole installation.
    pub(super) fn must_see_all(&self) -> Result<(), ApiError> {
        let Some(project) = &self.project else { return Ok(()) };
        let message = format!("token `{}` is for project `{project}` alone", self.name);
        Err(ApiError::new(ErrorCode::Forbidden, message).help("use a token for all projects"))
    }

    /// The project to ask the store for: the caller's own, or the one that the query names.
    pub(super) fn narrow(&self, asked: Option<String>) -> Option<String> {
        self.project.clone().or(asked)
    }

    /// How it is named in what it causes.
    pub(super) fn signature(&self) -> String {
        format!("api (token {})", self.name)
    }
}

/// A token's SHA-256 in hex: what the store knows it by. A look-up by it tells an attacker's clock nothing of the token.
pub(super) fn fingerprint(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// A fresh token: recognisable to scanners, and beyond guessing.
pub(super) fn fresh_token() -> String {
    let bytes: [u8; 32] = rand::random();
    format!("rouse_{}", URL_SAFE_NO_PAD.encode(bytes))
}

async fn caller(parts: &Parts, state: &AppState, least: Role) -> Result<Caller, ApiError> {
    let Some(token) = presented(parts) else {
        return Err(ApiError::new(ErrorCode::Unauthenticated, "this needs a token")
            .help("send `Authorization: Bearer TOKEN`; the first token lies in the master's state folder, in `admin.token`"));
    };
    let Some(known) = state.ctx.store.api_token(&fingerprint(token)).await? else {
        return Err(ApiError::new(ErrorCode::Unauthenticated, "this token is not known")
            .help("it was removed, or belongs to another installation"));
    };
    let caller = recognised(known)?;
    if caller.role < least {
        let message = format!("token `{}` has the role {}; this needs {}", caller.name, caller.role, least);
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    Ok(caller)
}

fn recognised(token: ApiToken) -> Result<Caller, ApiError> {
    let Ok(role) = token.role.parse() else {
        let message = format!("token `{}` has a role that this version does not know", token.name);
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    };
    Ok(Caller { name: token.name, role, project: Some(token.project).filter(|p| !p.is_empty()) })
}

fn presented(parts: &Parts) -> Option<&str> {
    if let Some(header) = parts.headers.get(AUTHORIZATION) {
        let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    let offered = parts.headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    offered.split(',').find_map(|protocol| protocol.trim().strip_prefix(PROTOCOL_PREFIX))
}

macro_rules! roles {
    ($($(#[$doc:meta])* $name:ident = $role:ident;)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name(pub Caller);

            impl FromRequestParts<AppState> for $name {
                type Rejection = ApiError;

                async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
                    caller(parts, state, Role::$role).await.map(Self)
                }
            }
        )*
    };
}

roles! {
    /// May look.
    Reader = Read;
    /// May start, cancel, drain.
    Operator = Operate;
    /// May change the installation.
    Admin = Admin;
}

/// All operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
    methods.into_iter().filter_map(Option::as_mut)
}

/// Says in the document that each operation takes a bearer token, unless it says otherwise.
pub(super) struct BearerTokens;

impl Modify for BearerTokens {
    fn modify(&self, document: &mut OpenApi) {
        let about = "A token of the installation. Which of the roles read, operate and admin an operation needs stands with it; each \
                     includes the ones before.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
        let components = document.components.get_or_insert_with(|| ComponentsBuilder::new().build());
        components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
        for item in document.paths.paths.values_mut() {
            for operation in operations(item) {
                operation
                    .security
                    .get_or_insert_with(|| vec![SecurityRequirement::new(SCHEME, [Role::Read.as_str()])]);
            }
        }
    }
}
