//! Errors of the admin API: `application/problem+json` (RFC 9457) with codes that programs may rely on.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rejoin::store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{ADMIN_DETAIL_BYTES_MAX, RETRY_AFTER_SECONDS};

/// The media type of errors.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($variant:ident $status:ident $name:literal $title:literal,)+) => {
        /// What went wrong, by a name that stays the same.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        #[schema(as = Code)]
        pub(crate) enum Code {
            $(#[doc = $title] #[serde(rename = $name)] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            #[cfg(test)]
            pub(crate) const ALL: &[Code] = &[$(Code::$variant,)+];

            /// Returns the name.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)+ }
            }

            /// Returns the HTTP status it comes with.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status,)+ }
            }

            /// Returns what it means.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)+ }
            }
        }
    };
}

codes! {
    Unauthorized UNAUTHORIZED "unauthorized" "The credential is missing or wrong",
    TooManyAttempts TOO_MANY_REQUESTS "too-many-attempts" "Too many wrong credentials came from this address",
    PathUnknown NOT_FOUND "path-unknown" "There is no such path",
    MethodNotAllowed METHOD_NOT_ALLOWED "method-not-allowed" "The path does not take this method",
    PathInvalid BAD_REQUEST "path-invalid" "A part of the path cannot be read",
    QueryInvalid BAD_REQUEST "query-invalid" "A query parameter is unknown or cannot be read",
    BodyInvalid BAD_REQUEST "body-invalid" "The body is not what the operation takes",
    BodyTooLarge PAYLOAD_TOO_LARGE "body-too-large" "The body is too large",
    MediaType UNSUPPORTED_MEDIA_TYPE "media-type" "The body is not of the media type that the operation takes",
    SpaceUnknown NOT_FOUND "space-unknown" "There is no such space",
    SpaceExists CONFLICT "space-exists" "There is such a space already",
    SpaceDefault CONFLICT "space-default" "The default space cannot be deleted",
    SpaceNotArchived CONFLICT "space-not-archived" "Only an archived space can be deleted",
    DocumentUnknown NOT_FOUND "document-unknown" "There is no such document",
    NotQuarantined NOT_FOUND "not-quarantined" "The document is not in quarantine",
    PrincipalUnknown NOT_FOUND "principal-unknown" "There is no such principal",
    PrincipalExists CONFLICT "principal-exists" "There is such a principal already",
    TokenUnknown NOT_FOUND "token-unknown" "There is no such token",
    GrantUnknown NOT_FOUND "grant-unknown" "There is no such grant",
    ConnectionUnknown NOT_FOUND "connection-unknown" "There is no such connection",
    JobUnknown NOT_FOUND "job-unknown" "There is no such job, or it ended too long ago",
    Refused UNPROCESSABLE_ENTITY "refused" "What was asked for cannot be done",
    FileExists CONFLICT "file-exists" "The file is there already",
    ImportInvalid UNPROCESSABLE_ENTITY "import-invalid" "What was sent is no export of a space, or is damaged",
    ConfigInvalid UNPROCESSABLE_ENTITY "config-invalid" "The configuration cannot be used",
    Busy CONFLICT "busy" "Such a job is under way already",
    Overloaded SERVICE_UNAVAILABLE "overloaded" "Too many requests are under way",
    Stopping SERVICE_UNAVAILABLE "stopping" "The relay is stopping",
    Timeout SERVICE_UNAVAILABLE "timeout" "It took too long",
    NotAvailable NOT_IMPLEMENTED "not-available" "This relay cannot do that",
    Store INTERNAL_SERVER_ERROR "store" "The store cannot be read or written",
    Internal INTERNAL_SERVER_ERROR "internal" "The relay failed",
}

/// An error, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Problem {
    /// `urn:rejoin-relay:problem:` and the code.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What the code means.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What went wrong, by a name that stays the same.
    pub(crate) code: Code,
    /// What is the matter in this case.
    pub(crate) detail: String,
}

/// Either what was asked for, or why not.
pub(crate) type Answer<T> = Result<T, Problem>;

impl Problem {
    /// Makes an error.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        // What was asked for may stand in it, as long as it likes.
        detail.truncate(detail.floor_char_boundary(ADMIN_DETAIL_BYTES_MAX));
        Self {
            kind: format!("urn:rejoin-relay:problem:{}", code.name()),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            code,
            detail,
        }
    }

    /// Makes an error of which there is nothing more to say than the code does.
    pub(crate) fn plain(code: Code) -> Self {
        Self::new(code, code.title())
    }
}

/// Tells the audit trail how a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome(pub(crate) Code);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.code;
        let mut response = (code.status(), Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match code {
            Code::Unauthorized => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Code::TooManyAttempts | Code::Overloaded | Code::Stopping => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        response.extensions_mut().insert(Outcome(code));
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "an administrator's request failed at the store");
        Self::new(Code::Store, error.to_string())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::MediaType,
            _ => Code::BodyInvalid,
        };
        Self::new(code, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::QueryInvalid, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Code::PathInvalid, rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_is_in_the_documentation() {
        let docs = include_str!("../../docs/admin.md");
        for (index, code) in Code::ALL.iter().enumerate() {
            assert!(Code::ALL[..index].iter().all(|other| other.name() != code.name()), "{code:?}");
            assert_eq!(serde_json::to_value(code).expect("it is a string"), code.name());
            let row = format!("| `{}` | {} | {} |", code.name(), code.status().as_u16(), code.title());
            assert!(docs.contains(&row), "relay/docs/admin.md lacks {row}");
        }
    }
}
