//! One envelope for everything that goes wrong.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rouse_store::{CommitError, ReadError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{OpenApi, Ref};
use utoipa::{Modify, ToSchema};

/// Seconds after which it may be worth another try.
const RETRY_AFTER: &str = "2";

/// What kind of thing went wrong; stable, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No token, or one that is not known.
    Unauthenticated,
    /// The token's role or project is not enough.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// The request is malformed, or names what there is not.
    Invalid,
    /// What is asked for contradicts what is on record.
    Conflict,
    /// It was there, and is not kept any more.
    Gone,
    /// More than is taken at once.
    TooLarge,
    /// The server was addressed by a name that is not its own.
    Misdirected,
    /// Not now; try again.
    Unavailable,
    /// The master's own fault.
    Internal,
}

impl From<ErrorCode> for StatusCode {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Unauthenticated => Self::UNAUTHORIZED,
            ErrorCode::Forbidden => Self::FORBIDDEN,
            ErrorCode::NotFound => Self::NOT_FOUND,
            ErrorCode::MethodNotAllowed => Self::METHOD_NOT_ALLOWED,
            ErrorCode::Invalid => Self::BAD_REQUEST,
            ErrorCode::Conflict => Self::CONFLICT,
            ErrorCode::Gone => Self::GONE,
            ErrorCode::TooLarge => Self::PAYLOAD_TOO_LARGE,
            ErrorCode::Misdirected => Self::MISDIRECTED_REQUEST,
            ErrorCode::Unavailable => Self::SERVICE_UNAVAILABLE,
            ErrorCode::Internal => Self::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorEnvelope {
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub code: ErrorCode,
    /// For a person; lower case, no full stop.
    pub message: String,
    /// More, for a program: what depends on the call is said there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What a handler gives back where it cannot do what was asked.
#[derive(Debug)]
pub struct ApiError(Box<ErrorBody>);

impl ApiError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorBody { code, message: message.into(), detail: None, help: None }))
    }

    pub(super) fn not_found(what: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("there is no {what}"))
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    /// The master's own fault: logged here, where it is handled, and told without its particulars.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(away) = Self::if_away(error) {
            return away;
        }
        tracing::error!(error = crate::supervisor::chain(error), "an API call failed");
        Self::new(ErrorCode::Internal, "the master failed to answer; its log says more")
    }

    /// Nothing of what was asked for has been done, and the same may be asked again. The log tells once why, and not for each call.
    fn away(error: &(dyn std::error::Error + 'static), message: &str) -> Self {
        tracing::debug!(error = crate::supervisor::chain(error), "an API call was turned away");
        Self::new(ErrorCode::Unavailable, message).help("try again; `/readyz` says why")
    }

    /// Where a database or an object store that is away is at the bottom of it.
    fn if_away(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(at) = cause {
            if at.downcast_ref::<ReadError>().is_some_and(ReadError::is_away) {
                return Some(Self::away(error, "the database cannot be read now"));
            }
            if matches!(at.downcast_ref::<CommitError>(), Some(CommitError::Unavailable { .. })) {
                return Some(Self::away(error, "the database cannot be written now"));
            }
            if let Some(objects) = at.downcast_ref::<object_store::Error>()
                && !matches!(objects, object_store::Error::NotFound { .. })
            {
                return Some(Self::away(error, "the store of logs and files cannot be reached now"));
            }
            cause = at.source();
        }
        None
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    pub(super) fn detail(mut self, detail: Value) -> Self {
        self.0.detail = Some(detail);
        self
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        Self::internal(&error)
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { .. } => {
                Self::conflict("somebody else changed it at the same moment").help("try again")
            }
            CommitError::Fenced { .. } => {
                Self::new(ErrorCode::Unavailable, "another master has taken over from this one")
            }
            CommitError::Unavailable { .. } | CommitError::Constraint { .. } => Self::internal(&error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let mut response = (StatusCode::from(code), Json(ErrorEnvelope { error: *self.0 })).into_response();
        if code == ErrorCode::Unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if code == ErrorCode::Unavailable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

/// Adds the envelope to every operation of the document.
pub(super) struct EveryOperationMayFail;

impl Modify for EveryOperationMayFail {
    fn modify(&self, document: &mut OpenApi) {
        for item in document.paths.paths.values_mut() {
            for operation in super::auth::operations(item) {
                let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorEnvelope"))).build();
                let response =
                    ResponseBuilder::new().description("What went wrong").content("application/json", body);
                operation
                    .responses
                    .responses
                    .entry("default".into())
                    .or_insert_with(|| response.build().into());
            }
        }
    }
}
