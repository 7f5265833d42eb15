//! What a request holds: its body, query and path, with problems where they cannot be read; and ids as they stand there.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use rejoin::{DocumentId, SpaceId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use super::problem::{Code, Problem};
use crate::limits::{ADMIN_PAGE_DEFAULT, ADMIN_PAGE_MAX};

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        body.map(|Json(body)| Self(body)).map_err(Problem::from)
    }
}

/// The query.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(Problem::from)
    }
}

/// The parts of the path that vary.
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(Problem::from)
    }
}

/// Which part of a list is asked for, and whose.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageOfPrincipal {
    /// Only those of this principal.
    pub(super) principal: Option<String>,
    /// Where to go on: `next` of the page before.
    pub(super) after: Option<String>,
    /// The most items, 1 to 1,000. Default: 100.
    pub(super) limit: Option<usize>,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageOf {
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    pub(super) after: Option<String>,
    /// The most items, 1 to 1,000. Default: 100.
    #[serde(default)]
    pub(super) limit: Option<usize>,
}

impl PageOf {
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }
}

/// Returns how many items a page has at most.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(ADMIN_PAGE_DEFAULT),
        Some(limit) if (1..=ADMIN_PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::new(Code::QueryInvalid, format!("limit: it is 1 to {ADMIN_PAGE_MAX}"))),
    }
}

/// How the default space is written.
pub(super) const DEFAULT_SPACE: &str = "default";

/// Reads a space's id: `default`, a UUID, or as they are shown.
pub(super) fn space(text: &str) -> Result<SpaceId, Problem> {
    if text == DEFAULT_SPACE {
        return Ok(SpaceId::DEFAULT);
    }
    text.parse().map_err(|error| Problem::new(Code::PathInvalid, format!("space: {error}")))
}

/// Writes a space's id.
pub(super) fn space_text(space: &SpaceId) -> String {
    if *space == SpaceId::DEFAULT { DEFAULT_SPACE.to_owned() } else { space.to_string() }
}

/// Reads a document's id.
pub(super) fn document(text: &str) -> Result<DocumentId, Problem> {
    text.parse().map_err(|error| Problem::new(Code::PathInvalid, format!("document: {error}")))
}

/// Reads the id to go on after, which is wrong in a query if it is wrong.
pub(super) fn after<T>(asked: Option<&str>, read: impl Fn(&str) -> Result<T, Problem>) -> Result<Option<T>, Problem> {
    let read = asked.filter(|text| !text.is_empty()).map(read).transpose();
    read.map_err(|problem| Problem::new(Code::QueryInvalid, format!("after: {}", problem.detail)))
}

/// Reads what may be absent (nothing changes), null (it is taken away) or there.
pub(super) fn maybe<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// Makes the type of a page: the items, and where to go on.
macro_rules! page {
    ($name:ident, $item:ty, $cursor:ty, $what:literal) => {
        #[doc = concat!("Some ", $what, ".")]
        #[derive(Debug, serde::Serialize, utoipa::ToSchema)]
        pub(super) struct $name {
            /// In their order.
            pub(super) items: Vec<$item>,
            /// `after` of the next page; null if this is the last one.
            #[schema(required = true)]
            pub(super) next: Option<$cursor>,
        }
    };
}
pub(super) use page;
