//! What was said while the tests ran, searched for what nobody may hear: every line that a relay logged, every line that a test
//! or a client printed.
//!
//! Relays in processes of their own log to a file since `REJOIN_RELAY_LOG_FILE` names one; those inside of tests do so at the
//! finest level by [`listen`]. Secrets are known by their form, contents by texts that the tests write into documents, and a
//! document's id, which lets whoever has it fetch the document, by its checksum.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use regex::bytes::{Regex, RegexSet};
use rejoin::DocumentId;
use rejoin_relay::config::LogFormat;
use rejoin_relay::logging::{LogOptions, Logging};

/// Secrets by their form.
const SECRETS: [(&str, &str); 7] = [
    ("a token of the relay", r"\brj[ts]_[0-9a-f]{16}_[A-Za-z0-9_-]{43}"),
    ("a ticket", r"\brjk_[A-Za-z0-9_.-]{20,}"),
    ("the administrator's credential", r"\brja_[A-Za-z0-9_-]{20,}"),
    ("a JWT", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    ("what a token is signed with", r"a secret of thirty-two bytes|longer than 32 bytes|secret = "),
    ("a credential in a header or an address", r"(?i)\bbearer[ .]\S{12,}|[?&](ticket|token)=\S{12,}"),
];

/// What the tests write into documents: words that are found nowhere else, and texts of the scenarios and of the pages in the
/// browser.
const CONTENTS: [&str; 13] = [
    "frobozzcontent",
    "xyzzycanary",
    "Groceries",
    "from the train",
    "while work was away",
    "héllo 😀",
    "Two layers, no nuts",
    "Ask Bo for plates",
    "From Ada: A3, on yellow paper",
    "the copy shop closes at six",
    "Ask the mayor",
    "Still bad",
    "by ada",
];

/// Lets relays inside of this process log to the file that `REJOIN_RELAY_LOG_FILE` names, if it does.
pub fn listen() {
    let Some(file) = std::env::var_os("REJOIN_RELAY_LOG_FILE") else { return };
    let (format, file) = (LogFormat::Human, Some(Path::new(&file)));
    let options = LogOptions { format, filter: "trace", stderr: false, file, otlp_endpoint: None };
    // Another test of this process may have begun.
    let _ = Logging::start(&options, &Arc::default());
}

/// What may be heard where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A relay's log: no secret, no content, no id of a document.
    Log,
    /// What tests and their clients print: no secret, no content.
    Output,
}

/// What was found in a file.
#[derive(Debug, Default)]
pub struct Heard {
    /// How many lines there are.
    pub lines: u64,
    /// Line and kind of what nobody may hear. The line itself is not repeated.
    pub found: Vec<(u64, String)>,
}

/// Knows what nobody may hear.
#[derive(Debug)]
pub struct Ear {
    said: RegexSet,
    names: Vec<String>,
    id: Regex,
}

impl Default for Ear {
    fn default() -> Self {
        let contents = CONTENTS.iter().map(|text| (format!("the content {text:?}"), regex::escape(text)));
        let secrets = SECRETS.iter().map(|(name, form)| ((*name).to_owned(), (*form).to_owned()));
        let (names, forms): (Vec<_>, Vec<_>) = secrets.chain(contents).unzip();
        // Sixteen bytes and a checksum of four in base 58.
        let id = Regex::new(r"\b[1-9A-HJ-NP-Za-km-z]{20,28}\b").unwrap();
        Self { said: RegexSet::new(forms).unwrap(), names, id }
    }
}

impl Ear {
    /// Returns how many things it listens for.
    pub fn rules(&self) -> usize {
        self.names.len() + 1
    }

    /// Returns what nobody may hear in a line.
    pub fn hear(&self, line: &[u8], kind: Kind) -> Vec<String> {
        let mut found: Vec<_> = self.said.matches(line).iter().map(|rule| self.names[rule].clone()).collect();
        if kind == Kind::Log && self.id.find_iter(line).any(|word| is_document(word.as_bytes())) {
            found.push("the id of a document".to_owned());
        }
        found
    }

    /// Listens to a whole file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(&self, path: &Path, kind: Kind) -> std::io::Result<Heard> {
        let mut heard = Heard::default();
        let mut reader = BufReader::new(File::open(path)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            heard.lines += 1;
            heard.found.extend(self.hear(&line, kind).into_iter().map(|what| (heard.lines, what)));
            line.clear();
        }
        Ok(heard)
    }
}

fn is_document(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| word.parse::<DocumentId>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_secret_is_heard() {
        let ear = Ear::default();
        let lines = [
            "token=rjt_0011223344556677_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "a link rjs_0011223344556677_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "rjk_BwcHBwcHBwcHBwcHBwcHBwcH.BwcHBwcHBwc",
            "rja_BwcHBwcHBwcHBwcHBwcHBwcH",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2VhbHNlYWxzZWFs",
            "-----BEGIN PRIVATE KEY-----",
            "keys = [{ alg = \"HS256\", secret = \"abc\" }]",
            "Authorization: Bearer abcdefghijklmnop",
            "GET /?ticket=abcdefghijklmnop",
        ];
        for line in lines {
            for kind in [Kind::Log, Kind::Output] {
                assert!(!ear.hear(line.as_bytes(), kind).is_empty(), "{line}");
            }
        }
        for text in CONTENTS {
            assert!(!ear.hear(format!("a {text} b").as_bytes(), Kind::Log).is_empty(), "{text}");
        }
    }

    #[test]
    fn document_is_known_by_its_checksum() {
        let (ear, id) = (Ear::default(), DocumentId::from_bytes([7; 16]).to_string());
        let line = format!("document={id} was opened");
        assert_eq!(ear.hear(line.as_bytes(), Kind::Log), ["the id of a document"]);
        assert!(ear.hear(line.as_bytes(), Kind::Output).is_empty());
        let (first, rest) = id.split_at(1);
        let another = if first == "2" { "3" } else { "2" };
        assert!(ear.hear(format!("peer={another}{rest}").as_bytes(), Kind::Log).is_empty());
    }

    #[test]
    fn what_a_relay_says_in_earnest_is_not_taken_for_a_secret() {
        let ear = Ear::default();
        let lines = [
            "2026-11-22T09:00:00Z  INFO connection{id=7 protocol=\"rejoin.v1\"}: rejoin_relay::v1: closed peer=ada",
            "WARN rejoin_relay::admin: an administrator's credential was wrong address=127.0.0.1:4000",
            "document=0011223344556677 reason=\"expired-token\" principal=ada",
        ];
        for line in lines {
            assert_eq!(ear.hear(line.as_bytes(), Kind::Log), Vec::<String>::new(), "{line}");
        }
    }

    /// Else a text that the tests write no more would be looked for in vain.
    #[test]
    fn contents_are_written_by_the_tests() {
        let root = crate::package_dir().join("..");
        let folders = ["tests/scenarios", "tests/src", "tests/interop", "relay/tests", "wasm/e2e", "web-demo/e2e"];
        let mut files: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
        let mut missing: BTreeSet<_> = CONTENTS.into_iter().collect();
        while let Some(path) = files.pop() {
            if path.ends_with("node_modules") || path.ends_with("said.rs") {
                continue;
            }
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                missing.retain(|content| !text.contains(content));
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }
}
