//! Failures as JavaScript sees them: a stable code, a sentence, and what a program may want to know besides.

use rejoin::RepoError;
use rejoin::document::DocumentError;
use rejoin::fields::FieldError;
use rejoin::store::StoreError;
use serde_json::{Value as Json, json};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// One of the stable codes of the package.
    pub code: &'static str,
    /// What is wrong, for a person.
    pub message: String,
    /// What a program may want to know besides.
    pub details: Option<Json>,
}

impl Failure {
    /// Makes a failure without details.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None }
    }

    /// Says that an argument is missing or of another type.
    pub fn argument(what: &str) -> Self {
        Self::new("bad_argument", format!("failed to read the request: {what}"))
    }

    /// Says that the engine was closed.
    pub fn closed() -> Self {
        RepoError::Closed.into()
    }

    /// Returns the failure as JSON: `{code, message, details?}`.
    pub fn to_json(&self) -> Json {
        let mut json = json!({ "code": self.code, "message": self.message });
        if let (Some(details), Some(map)) = (&self.details, json.as_object_mut()) {
            map.insert("details".to_owned(), details.clone());
        }
        json
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        let details = match &error {
            RepoError::Rejected { code, text } => {
                Some(json!({ "code": rejoin::codec::v1::Code::from_number(*code).name(), "text": text }))
            }
            RepoError::NotSynced { changes, deletions, rejected } => {
                Some(json!({ "changes": changes, "deletions": deletions, "rejected": rejected }))
            }
            RepoError::Elsewhere { space } => Some(json!({ "space": space.to_string() })),
            _ => None,
        };
        Self { code: code(&error), message: error.to_string(), details }
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        RepoError::from(error).into()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        RepoError::from(error).into()
    }
}

fn code(error: &RepoError) -> &'static str {
    match error {
        RepoError::Store(error) => store_code(error),
        RepoError::Field(error) => field_code(error),
        RepoError::Document(error) => document_code(error),
        RepoError::NotFound | RepoError::Elsewhere { .. } => "not_found",
        RepoError::Deleted => "deleted",
        RepoError::Import { .. } | RepoError::Address { .. } | RepoError::Presence(_) => "bad_argument",
        RepoError::Merge { .. } | RepoError::TakeOut { .. } => "refused",
        RepoError::Timeout => "timeout",
        RepoError::Rejected { .. } => "rejected",
        RepoError::Gone => "gone",
        RepoError::NotSynced { .. } => "offline_needed",
        RepoError::SigningOut => "signing_out",
        RepoError::Closed => "closed",
        RepoError::Typed(_) => "bad_value",
        _ => "internal",
    }
}

fn store_code(error: &StoreError) -> &'static str {
    match error {
        StoreError::Full(_) => "store_full",
        StoreError::Locked { .. } => "store_in_use",
        StoreError::Newer { .. } => "store_newer",
        StoreError::Foreign { .. } | StoreError::Damaged { .. } => "store_damaged",
        _ => "store_failed",
    }
}

fn field_code(error: &FieldError) -> &'static str {
    match error {
        FieldError::NoDocument { .. } => "not_found",
        FieldError::KeyTooLong { .. } | FieldError::TooDeep | FieldError::Refused(_) => "too_large",
        _ => "wrong_path",
    }
}

fn document_code(error: &DocumentError) -> &'static str {
    match error {
        DocumentError::Store(error) => store_code(error),
        DocumentError::Path { .. } | DocumentError::NoBlock { .. } => "wrong_path",
        DocumentError::Automerge(_)
        | DocumentError::Index { .. }
        | DocumentError::Range { .. }
        | DocumentError::Cursor => "bad_argument",
        DocumentError::Gate(_) | DocumentError::TooDeep => "too_large",
        DocumentError::UnknownHeads { .. } => "unknown_heads",
        DocumentError::Panicked => "trapped",
        _ => "internal",
    }
}
