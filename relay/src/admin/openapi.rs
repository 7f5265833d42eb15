//! The OpenAPI document of the admin API, made from the routes.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::problem::{PROBLEM_JSON, Problem};
use super::{operations, watched};

/// What the document says about itself.
const DESCRIPTION: &str = "What an operator sees and does. Every operation under /v1 needs the credential of the relay as a \
                           bearer token. Lists come in pages: pass `next` as `after` until it is null. Errors are \
                           application/problem+json with a stable `code`.";

/// Returns the OpenAPI 3.1 document of the admin API. It is made once.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(make)
}

/// Returns the name of the operation that a method and a path call.
pub(super) fn operation_id(method: &str, path: &str) -> Option<String> {
    let paths = document()["paths"].as_object()?;
    let (_, operations) = paths.iter().find(|(template, _)| is_like(template, path))?;
    operations.get(method.to_ascii_lowercase())?["operationId"].as_str().map(str::to_owned)
}

/// Says whether a path is one of those that a template stands for. No two of ours stand for the same.
fn is_like(template: &str, path: &str) -> bool {
    let (mut parts, mut found) = (template.split('/'), path.split('/'));
    loop {
        match (parts.next(), found.next()) {
            (None, None) => return true,
            (Some(part), Some(found)) if part == found || part.starts_with('{') && !found.is_empty() => {}
            _ => return false,
        }
    }
}

fn make() -> Value {
    let guarded = operations().into_openapi();
    let open = watched().into_openapi();
    let mut document = serde_json::to_value(&guarded).unwrap_or_default();
    let open = serde_json::to_value(&open).unwrap_or_default();
    document["openapi"] = json!("3.1.0");
    document["info"] = json!({
        "title": "Rejoin relay: admin API",
        "version": "1",
        "description": DESCRIPTION,
        "license": { "name": "MIT OR Apache-2.0" },
    });
    let schema = <Problem as utoipa::PartialSchema>::schema();
    document["components"]["schemas"]["Problem"] = serde_json::to_value(schema).unwrap_or_default();
    let code = <super::problem::Code as utoipa::PartialSchema>::schema();
    document["components"]["schemas"]["Code"] = serde_json::to_value(code).unwrap_or_default();
    document["components"]["securitySchemes"]["credential"] = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "What stands in the file admin-token in the relay's data directory.",
    });
    for operation in operations_of(&mut document) {
        operation["security"] = json!([{ "credential": [] }]);
        operation["responses"]["default"] = problem();
        if let Some(operation) = operation.as_object_mut() {
            operation.remove("tags");
        }
    }
    let mut open = open;
    for operation in operations_of(&mut open) {
        operation["security"] = json!([]);
        operation["responses"]["default"] = problem();
        if let Some(operation) = operation.as_object_mut() {
            operation.remove("tags");
        }
    }
    if let (Some(paths), Some(more)) = (document["paths"].as_object_mut(), open["paths"].as_object_mut()) {
        paths.append(more);
        paths.insert("/openapi.json".to_owned(), own_path());
    }
    document
}

/// What every operation may answer beside what it says itself.
fn problem() -> Value {
    json!({
        "description": "An error; `code` says which",
        "content": { PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

/// The document's own entry.
fn own_path() -> Value {
    json!({ "get": {
        "operationId": "openapi_get",
        "summary": "Returns this document.",
        "security": [],
        "responses": {
            "200": { "description": "OpenAPI 3.1", "content": { "application/json": { "schema": { "type": "object" } } } },
            "default": problem(),
        },
    } })
}

fn operations_of(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter();
    paths.flat_map(|paths| paths.values_mut()).filter_map(Value::as_object_mut).flat_map(|path| path.values_mut())
}
