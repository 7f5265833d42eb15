//! Connections: who is there, and ending them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{self, Asked, At, page};
use super::principals::name;
use super::problem::{Answer, Code, Problem};
use crate::auth::PrincipalId;
use crate::registry::Listed;

/// A WebSocket connection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Connection {
    /// Names it for as long as the relay runs.
    number: u64,
    /// Who is behind it; null for nobody in particular, and until it says who it is.
    #[schema(required = true)]
    principal: Option<String>,
    /// Where it comes from.
    address: String,
    /// `classic` or `rejoin.v1`.
    protocol: String,
    /// Since when, in seconds since 1970.
    since_seconds: u64,
    /// The name that the peer gives itself, escaped and cut.
    peer: String,
    /// Bytes that came from it.
    bytes_in: u64,
    /// Bytes that went to it.
    bytes_out: u64,
    /// In how many documents and spaces it takes part.
    subscriptions: u64,
}

impl From<Listed> for Connection {
    fn from(listed: Listed) -> Self {
        Self {
            number: listed.number,
            principal: listed.principal.map(|principal| principal.to_string()),
            address: listed.address.to_string(),
            protocol: listed.protocol.name().to_owned(),
            since_seconds: listed.since_seconds,
            peer: listed.peer,
            bytes_in: listed.bytes_in,
            bytes_out: listed.bytes_out,
            subscriptions: listed.subscriptions,
        }
    }
}

page!(ConnectionPage, Connection, u64, "connections");

/// Which connections are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those of this principal.
    principal: Option<String>,
    /// Where to go on: `next` of the page before.
    after: Option<u64>,
    /// The most items, 1 to 1,000. Default: 100.
    limit: Option<usize>,
}

fn principal(text: &str) -> Answer<PrincipalId> {
    name(text, Code::QueryInvalid)
}

/// Lists connections, by number.
#[utoipa::path(get, path = "/v1/connections", params(Which), responses((status = 200, body = ConnectionPage)))]
pub(super) async fn connection_list(
    State(app): State<App>,
    Asked(which): Asked<Which>,
) -> Answer<Json<ConnectionPage>> {
    let limit = extract::limit(which.limit)?;
    let who = which.principal.as_deref().map(principal).transpose()?;
    let listed = app.shared.registry.list(who.as_ref(), which.after.unwrap_or_default(), limit);
    let next = (listed.len() == limit).then(|| listed.last().map(|last| last.number)).flatten();
    Ok(Json(ConnectionPage { items: listed.into_iter().map(Connection::from).collect(), next }))
}

/// Returns one connection.
#[utoipa::path(get, path = "/v1/connections/{number}", params(("number" = u64, Path)), responses((status = 200, body = Connection)))]
pub(super) async fn connection_get(State(app): State<App>, At(number): At<u64>) -> Answer<Json<Connection>> {
    let listed = app.shared.registry.get(number).ok_or_else(|| Problem::plain(Code::ConnectionUnknown))?;
    Ok(Json(listed.into()))
}

/// How many connections were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kicked {
    /// How many.
    kicked: usize,
}

/// Ends a connection. Its client may come back: to keep it away, disable its principal.
#[utoipa::path(delete, path = "/v1/connections/{number}", params(("number" = u64, Path)), responses((status = 200, body = Kicked)))]
pub(super) async fn connection_kick(State(app): State<App>, At(number): At<u64>) -> Answer<Json<Kicked>> {
    if app.shared.registry.kick(number) {
        return Ok(Json(Kicked { kicked: 1 }));
    }
    Err(Problem::plain(Code::ConnectionUnknown))
}

/// Whose connections are ended.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// The principal.
    principal: String,
}

/// Ends all connections of a principal.
#[utoipa::path(delete, path = "/v1/connections", params(Whose), responses((status = 200, body = Kicked)))]
pub(super) async fn connection_kick_all(
    State(app): State<App>,
    Asked(whose): Asked<Whose>,
) -> Answer<axum::response::Response> {
    let who = principal(&whose.principal)?;
    let kicked = app.shared.registry.kick_all(&who);
    Ok(super::about(format!("principal/{who}"), Json(Kicked { kicked })))
}
