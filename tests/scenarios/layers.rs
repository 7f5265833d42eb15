//! The law of the layers, held against the source itself: what may use what.
//!
//! It reads the paths that stand in the code, those in `use` trees included, and leaves out comments, texts and tests. A
//! name that is given another one would slip through; nobody does that without meaning to.

use std::fs;
use std::path::Path;

/// What some modules may not use.
struct Law {
    /// From the top of the repository.
    source: &'static str,
    /// Each with everything below it; none for all.
    modules: &'static [&'static str],
    /// Paths or parts of paths.
    forbidden: &'static [&'static str],
}

const LAWS: [Law; 2] = [
    // Time, chance and the store are arguments, and nothing above is known.
    Law {
        source: "core/src",
        modules: &["gate", "pack", "ledger", "fields", "engine", "document", "sync", "codec"],
        forbidden: &[
            "std::time::Instant",
            "std::time::SystemTime",
            "std::time::UNIX_EPOCH",
            "std::time::*",
            "Instant::now",
            "SystemTime::now",
            "std::thread",
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
            "tokio",
            "rustix",
            "rand",
            "getrandom",
            "new_v4",
            "RandomState",
            "redb",
            "RedbStore",
            "crate::fold",
            "crate::repo",
            "crate::client",
        ],
    },
    // The relay resolves no conflict and loads no document: what must be loaded is loaded by a child, in `rejoin::fold`.
    Law {
        source: "relay/src",
        modules: &[],
        forbidden: &[
            "automerge",
            "rejoin::*",
            "rejoin::document",
            "rejoin::fields",
            "rejoin::engine",
            "rejoin::repo",
            "rejoin::client",
            "rejoin::Edit",
            "rejoin::FieldValue",
            "rejoin::FieldPath",
            "rejoin::DocHandle",
            "rejoin::Repo",
        ],
    },
];

#[test]
fn every_layer_uses_only_what_it_may() {
    let top = rejoin_tests::package_dir().join("..");
    let mut breaches = Vec::new();
    for law in &LAWS {
        let source = top.join(law.source);
        let tests = test_modules(&read(&source.join("lib.rs")));
        let mut files = 0;
        visit(&source, &tests, &mut |path| {
            let name = path.strip_prefix(&source).unwrap().to_str().unwrap();
            let module = name.split(['/', '.']).next().unwrap();
            if !law.modules.is_empty() && !law.modules.contains(&module) {
                return;
            }
            files += 1;
            let found = breaches_of(law.forbidden, &read(path));
            breaches.extend(found.into_iter().map(|(line, used)| format!("{}/{name}:{line}: {used}", law.source)));
        });
        assert!(files >= law.modules.len().max(10), "{files} files of {} were read", law.source);
    }
    assert!(breaches.is_empty(), "used where the layers forbid it, see ARCHITECTURE.md:\n{}", breaches.join("\n"));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Visits the files of a folder and of the modules below it, those of tests left out.
fn visit(folder: &Path, tests: &[String], look: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|extension| extension != "rs") || tests.iter().any(|test| test == module) {
            continue;
        }
        look(&path);
        let below = path.with_extension("");
        if below.is_dir() {
            visit(&below, &test_modules(&read(&path)), look);
        }
    }
}

/// Returns the forbidden paths that a source uses, with their lines.
fn breaches_of(forbidden: &[&str], source: &str) -> Vec<(usize, String)> {
    let (code, _) = without_tests(&tokens(source));
    let is_forbidden = |used: &str| forbidden.iter().any(|part| holds(used, part));
    paths(&code).into_iter().filter(|(_, used)| is_forbidden(used)).collect()
}

/// Says whether a path holds another one: `a::b::c` holds `b::c` and not `c::c`.
fn holds(path: &str, part: &str) -> bool {
    let (path, part): (Vec<_>, Vec<_>) = (path.split("::").collect(), part.split("::").collect());
    path.windows(part.len()).any(|window| window == part)
}

/// Returns the modules of tests that a source declares in files of their own.
fn test_modules(source: &str) -> Vec<String> {
    without_tests(&tokens(source)).1
}

/// A name, `::`, or another character, with its line.
type Token = (usize, String);

/// Splits a source into tokens; comments, texts, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().chain(['\n'; 3]).collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at + 3 < chars.len() {
        let start = at;
        match (chars[at], chars[at + 1]) {
            ('/', '/') => at += chars[at..].iter().take_while(|c| **c != '\n').count(),
            ('/', '*') => at = after_comment(&chars, at),
            ('"', _) => at = after_text(&chars, at + 1),
            ('r', '"' | '#') if raw_text(&chars, at).is_some() => at = raw_text(&chars, at).unwrap(),
            ('\'', '\\') => at += 3 + chars[at + 3..].iter().take_while(|c| **c != '\'').count() + 1,
            ('\'', _) if chars[at + 2] == '\'' => at += 3,
            ('\'', _) => at += 1 + name_length(&chars[at + 1..]),
            (':', ':') => {
                tokens.push((line, "::".to_owned()));
                at += 2;
            }
            (c, _) if name_length(&chars[at..]) > 0 && !c.is_whitespace() => {
                at += name_length(&chars[at..]);
                // A prefix of a text, as in `b"..."` and `br"..."`, is no name.
                if chars[at] != '"' {
                    tokens.push((line, chars[start..at].iter().collect()));
                }
            }
            (c, _) => {
                if !c.is_whitespace() {
                    tokens.push((line, c.to_string()));
                }
                at += 1;
            }
        }
        line += chars[start..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn name_length(chars: &[char]) -> usize {
    chars.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()
}

fn after_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn after_text(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Returns where the raw text ends that begins here, if one does.
fn raw_text(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let begin = at + 1 + hashes;
    if chars[begin] != '"' {
        return None;
    }
    let is_end = |end: &usize| chars[*end] == '"' && chars[end + 1..].iter().take(hashes).all(|c| *c == '#');
    (begin + 1..chars.len() - hashes).find(is_end).map(|end| end + 1 + hashes)
}

/// Leaves out the items that are only there for tests; returns the rest, and the test modules in files of their own.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|(_, token)| token == text);
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if !["#", "[", "cfg", "(", "test", ")", "]"].iter().enumerate().all(|(index, text)| is(at + index, text)) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += 7;
        while is(at, "#") {
            at = after_group(tokens, at + 1);
        }
        while at < tokens.len() && !is(at, ";") && !is(at, "{") {
            if is(at, "mod") && is(at + 2, ";") {
                modules.push(tokens[at + 1].1.clone());
            }
            at += 1;
        }
        at = if is(at, "{") { after_group(tokens, at) } else { at + 1 };
    }
    (kept, modules)
}

/// Returns where the group of brackets or braces ends that begins here.
fn after_group(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        depth += i32::from(matches!(tokens[at].1.as_str(), "{" | "["));
        depth -= i32::from(matches!(tokens[at].1.as_str(), "}" | "]"));
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Returns every path in the code with its line, a `use` tree as one for each of its leaves.
fn paths(tokens: &[Token]) -> Vec<(usize, String)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        at = path(tokens, at, "", &mut found);
    }
    found
}

/// Reads a path, or passes over a token that begins none. Returns where it goes on.
fn path(tokens: &[Token], at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let is_name = |token: &str| token == "*" || token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let (line, first) = &tokens[at];
    if !is_name(first) {
        return at + 1;
    }
    let (mut path_so_far, mut at) = (format!("{prefix}{first}"), at + 1);
    while text(at) == "::" && is_name(text(at + 1)) {
        path_so_far = format!("{path_so_far}::{}", text(at + 1));
        at += 2;
    }
    if text(at) != "::" || text(at + 1) != "{" {
        found.push((*line, path_so_far));
        return at;
    }
    at += 2;
    while at < tokens.len() && text(at) != "}" {
        at = path(tokens, at, &format!("{path_so_far}::"), found);
    }
    at + 1
}

#[test]
fn checker_finds_every_form_of_a_breach_and_nothing_else() {
    let bad = r##"//! std::fs in a comment, /* "tokio" */ and
use std::{collections::HashMap, fs, time::{Duration, Instant}};
use std::sync::Arc; /* std::net /* nested */ tokio */ use tokio::net as wire;

fn work<'a>(quote: char, text: &'a str) -> u64 {
    let shown = ("std::thread", r#"a "raw" std::thread"#, b"std::net", '"', '\'', '\u{1f600}');
    std::thread::spawn(|| ()); "a text with \" in it, and
        std::thread over two lines";
    let standing = self.rand.fs + operand::thread;
    Instant::now().elapsed()
        + uuid::Uuid::new_v4()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    fn nested() { if true { std::thread::yield_now() } }
}
#[cfg(test)]
mod crash;
#[cfg(test)]
pub(crate) use tokio::sync;

const LAST: Duration = std::time::Duration::ZERO + std::process::id();
"##;
    let forbidden =
        ["std::fs", "std::time::Instant", "std::thread", "std::net", "std::process", "tokio", "Instant::now", "new_v4"];
    let found = breaches_of(&forbidden, bad);
    let expected = [
        (2, "std::fs"),
        (2, "std::time::Instant"),
        (3, "tokio::net"),
        (7, "std::thread::spawn"),
        (10, "Instant::now"),
        (11, "uuid::Uuid::new_v4"),
        (25, "std::process::id"),
    ];
    assert_eq!(found, expected.map(|(line, used)| (line, used.to_owned())));
    assert_eq!(test_modules(bad), ["crash"]);
    let good =
        "use rejoin::{DocumentId, ledger::{self, document}, store::*}; fn document(fields: u8) { document::x() }";
    assert_eq!(breaches_of(LAWS[1].forbidden, good), []);
    for bad in ["use rejoin::{ledger, document::Document};", "rejoin::fields::set()", "use rejoin::*;"] {
        assert_eq!(breaches_of(LAWS[1].forbidden, bad).len(), 1, "{bad}");
    }
}
