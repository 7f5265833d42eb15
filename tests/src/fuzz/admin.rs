//! The admin API: any method, path, query and body, with the credential and without, through the router of a relay that has
//! no listener.
//!
//! An input is up to a few requests, each as text: a line with method and path (`!` before it: without the credential), a line
//! with the content type, and the body.

use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;
use rejoin::store::{MemoryStore, Store};
use rejoin_relay::Config;
use rejoin_relay::admin::testing::Unheard;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::script::Script;
use super::{Seen, Target, size_class, v1};
use crate::hostile::mutate::damage;
use crate::hostile::session::fork;

/// After so many inputs the relay is made anew: what was created goes.
const INPUTS_A_RELAY: u64 = 64;

/// Words that stand in paths, queries and bodies.
const WORDS: [&str; 24] = [
    "default",
    "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a",
    "5e5e5e5e-5e5e-5e5e-5e5e-5e5e5e5e5e5e",
    "alice",
    "*",
    "..",
    "%00",
    "%2e%2e%2f",
    "%ff%fe",
    "1",
    "0",
    "-1",
    "18446744073709551616",
    "1e999",
    "9007199254740993",
    "read",
    "write",
    "admin",
    "document:5e5e",
    "space:default",
    "everything",
    "ẞ𝄞\u{202e}",
    "null",
    "automerge:2akvofn6L1o4RMUEMQi7qzwRjKWZ",
];

/// A relay that is asked.
pub struct AdminApi {
    store: MemoryStore,
    data: TempDir,
    relay: Option<Unheard>,
    asked: u64,
}

impl AdminApi {
    /// Makes it with a relay that has some documents.
    pub fn new() -> Self {
        Self { store: v1::hosts::relay_store(), data: tempfile::tempdir().unwrap(), relay: None, asked: 0 }
    }

    fn relay(&mut self) -> &mut Unheard {
        self.asked += 1;
        if self.asked.is_multiple_of(INPUTS_A_RELAY) {
            self.relay = None;
        }
        self.relay.get_or_insert_with(|| {
            let store: Arc<dyn Store> = Arc::new(fork(&self.store));
            let config = Config::new(self.data.path(), "127.0.0.1:0".parse().unwrap());
            Unheard::new(store, &config).unwrap()
        })
    }
}

impl Default for AdminApi {
    fn default() -> Self {
        Self::new()
    }
}

impl Target for AdminApi {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        let document = rejoin_relay::admin::openapi();
        let mut seeds = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let words = [("{space}", WORDS[1]), ("{document}", WORDS[2]), ("{principal}", WORDS[3])];
                let path = words.iter().fold(path.clone(), |path, (name, word)| path.replace(name, word));
                let path = path.replace(['{', '}'], "");
                let names = operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query");
                let query: Vec<_> = names.map(|one| format!("{}=1", one["name"].as_str().unwrap())).collect();
                let content = operation["requestBody"]["content"].as_object();
                let media = content.and_then(|content| content.keys().next().cloned()).unwrap_or_default();
                let schema = content.and_then(|content| content.values().next()).map(|media| &media["schema"]);
                let body = schema.map(|schema| example(schema, document, 0).to_string()).unwrap_or_default();
                let method = method.to_uppercase();
                let plain = format!("{method} {path}\n{media}\n{body}").into_bytes();
                let asked = format!("{method} {path}?{}\n{media}\n{body}", query.join("&")).into_bytes();
                let unknown = format!("!{method} {path}\n{media}\n{body}").into_bytes();
                seeds.push(Script::new(&[], [plain.clone(), asked, plain]).write());
                seeds.push(Script::new(&[], [unknown]).write());
            }
        }
        let path = format!("/v1/spaces/{}", WORDS[1]);
        let export = self.relay().ask("GET", &format!("{path}/export"), &[], true, Vec::new()).unwrap();
        assert_eq!(export.status, 200, "a space is exported");
        let import = b"POST /v1/spaces/default/import\napplication/octet-stream\n";
        seeds.push(Script::new(&[], [[&import[..], &export.body].concat()]).write());
        seeds
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        let (mut script, other) = (Script::read(input), Script::read(other));
        let foreign = other.items.first().cloned().unwrap_or_default();
        script.mutate(&other, random, |request, random| {
            if random.random_bool(0.1) {
                return damage(request, |_| &foreign, random);
            }
            let mut parts = request.splitn(3, |byte| *byte == b'\n').map(<[u8]>::to_vec);
            let mut next = || parts.next().unwrap_or_default();
            let (mut line, mut media, mut body) = (next(), next(), next());
            match random.random_range(0..12) {
                0..4 => line = another_line(&line, random),
                4 => media = b"application/octet-stream".to_vec(),
                _ => match serde_json::from_slice::<Json>(&body) {
                    Ok(mut value) => {
                        change(&mut value, random, 0);
                        body = value.to_string().into_bytes();
                    }
                    Err(_) => body = damage(&body, |_| &foreign, random),
                },
            }
            [line, media, body].join(&b'\n')
        });
        script.items.truncate(6);
        script.write()
    }

    /// A body has at most 16 MiB where a space is imported and 64 KiB elsewhere; answers are pages.
    fn bound_bytes(&self, input: &[u8]) -> usize {
        (64 << 20) + 64 * input.len()
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        let script = Script::read(input);
        let data = self.data.path().to_string_lossy().into_owned();
        let relay = self.relay();
        let mut seen = Vec::new();
        let mut class = "nothing".to_owned();
        for request in script.items.iter().take(6) {
            let Some((status, code)) = ask(relay, request, &data) else { continue };
            class = if code.is_empty() { status.to_string() } else { code.clone() };
            seen.push((status, code));
        }
        let is_taken = seen.iter().any(|(status, _)| *status < 400);
        Seen { is_taken, ..Seen::taken(&class, &seen) }
    }

    fn classes_min(&self) -> usize {
        10
    }
}

/// Sends one request; returns the status and the code of a problem, or nothing if HTTP does not carry it.
fn ask(relay: &mut Unheard, request: &[u8], data: &str) -> Option<(u16, String)> {
    let mut parts = request.splitn(3, |byte| *byte == b'\n');
    let line = String::from_utf8_lossy(parts.next()?).into_owned();
    let media = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let body = parts.next().unwrap_or_default().to_vec();
    let (is_known, line) = line.strip_prefix('!').map_or((true, &line[..]), |line| (false, line));
    let (method, path) = line.split_once(' ')?;
    if path.contains("backup") && !is_harmless(&body, data) {
        return None;
    }
    let headers: &[(&str, &str)] = if media.is_empty() { &[] } else { &[("content-type", &media)] };
    let answer = relay.ask(method, path, headers, is_known, body)?;
    let text = String::from_utf8_lossy(&answer.body);
    assert_ne!(answer.status, 500, "an internal error: {text}");
    let is_json = answer.media_type.contains("json") && method != "HEAD";
    let json: Json =
        if is_json { serde_json::from_slice(&answer.body).expect("JSON that can be read") } else { Json::Null };
    if answer.status < 400 {
        return Some((answer.status, format!("ok {}", size_class(answer.body.len()) / 4)));
    }
    assert!(method == "HEAD" || answer.media_type == "application/problem+json", "{} {text}", answer.media_type);
    assert!(method == "HEAD" || json["status"] == answer.status, "{text}");
    assert!(text.len() < 4_000, "a long problem: {text}");
    Some((answer.status, json["code"].as_str().unwrap_or("none").to_owned()))
}

/// Says whether a backup that is asked for stays below the test's own directory.
fn is_harmless(body: &[u8], data: &str) -> bool {
    let Ok(value) = serde_json::from_slice::<Json>(body) else { return true };
    ["to", "since"].iter().all(|name| match value[*name].as_str() {
        Some(path) => !path.starts_with('/') || (path.starts_with(data) && !path.contains("..")),
        None => true,
    })
}

/// Changes a word of a request's first line.
fn another_line(line: &[u8], random: &mut StdRng) -> Vec<u8> {
    let text = String::from_utf8_lossy(line).into_owned();
    let word = WORDS[random.random_range(0..WORDS.len())];
    let mut parts: Vec<String> = text.split('/').map(str::to_owned).collect();
    let at = random.random_range(0..parts.len());
    match random.random_range(0..7) {
        0 => return text.replacen(' ', &format!("{} ", ["X", "", "S"][random.random_range(0..3)]), 1).into_bytes(),
        1 => {
            let methods = ["GET ", "POST ", "PUT ", "PATCH ", "DELETE ", "HEAD ", "OPTIONS "];
            let rest = text.split_once(' ').map_or("/", |(_, rest)| rest);
            return format!("{}{rest}", methods[random.random_range(0..methods.len())]).into_bytes();
        }
        2 => return format!("{text}{}limit={word}", if text.contains('?') { '&' } else { '?' }).into_bytes(),
        3 => return text.replace("=1", &format!("={word}")).into_bytes(),
        4 if at > 0 => parts[at] = word.to_owned(),
        5 if at > 0 => drop(parts.remove(at)),
        _ => parts.push(word.repeat(random.random_range(1..20))),
    }
    parts.join("/").into_bytes()
}

/// Changes one thing of a JSON value.
fn change(value: &mut Json, random: &mut StdRng, depth: usize) {
    let is_deeper = depth < 6 && random.random_bool(0.8);
    match value {
        Json::Object(entries) if is_deeper && !entries.is_empty() => {
            let at = random.random_range(0..entries.len());
            let (name, inner) = entries.iter_mut().nth(at).expect("it was counted");
            let name = name.clone();
            match random.random_range(0..8) {
                0 => drop(entries.remove(&name)),
                1 => drop(entries.insert(WORDS[random.random_range(0..WORDS.len())].to_owned(), Json::Null)),
                _ => change(inner, random, depth + 1),
            }
        }
        Json::Array(items) if is_deeper && !items.is_empty() => {
            let at = random.random_range(0..items.len());
            if random.random_bool(0.2) {
                items.push(items[at].clone())
            } else {
                change(&mut items[at], random, depth + 1)
            }
        }
        _ => *value = any(random),
    }
}

/// A value where another one is expected.
fn any(random: &mut StdRng) -> Json {
    let word = WORDS[random.random_range(0..WORDS.len())];
    match random.random_range(0..10) {
        0 => Json::Null,
        1 => json!(true),
        2 => json!(u64::MAX >> random.random_range(0..64)),
        3 => json!(-1),
        4 => json!(1.5e300),
        5 => json!(word.repeat(random.random_range(1..400))),
        6 => json!([word, word, word]),
        7 => json!({ word: word }),
        8 => (0..random.random_range(1..200)).fold(Json::Null, |inner, _| json!([inner])),
        _ => json!(word),
    }
}

/// Makes a value that a schema of the OpenAPI document describes, more or less.
fn example(schema: &Json, document: &Json, depth: usize) -> Json {
    if depth > 6 {
        return Json::Null;
    }
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        return example(&document["components"]["schemas"][name], document, depth + 1);
    }
    if let Some(first) = schema["enum"].as_array().and_then(|all| all.first()) {
        return first.clone();
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        if let Some(last) = schema[list].as_array().and_then(|all| all.last()) {
            return example(last, document, depth + 1);
        }
    }
    let kinds = match &schema["type"] {
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).collect(),
        kind => vec![kind.as_str().unwrap_or("object")],
    };
    match kinds[0] {
        "integer" | "number" => json!(60),
        "boolean" => json!(true),
        "string" => json!("alice"),
        "array" => json!([example(&schema["items"], document, depth + 1)]),
        _ => {
            let properties = schema["properties"].as_object();
            properties
                .into_iter()
                .flatten()
                .map(|(name, inner)| (name.clone(), example(inner, document, depth + 1)))
                .collect()
        }
    }
}
