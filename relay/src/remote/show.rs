//! Answers for people: tables, and a line for each part of one thing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use super::call::{Call, Show};

/// A column of a table.
#[derive(Debug)]
pub(super) struct Column {
    /// Where in an item, parts separated by slashes.
    at: &'static str,
    title: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Bytes,
    Time,
    Count,
}

impl Column {
    pub(super) const fn text(at: &'static str, title: &'static str) -> Self {
        Self { at, title, kind: Kind::Text }
    }

    pub(super) const fn bytes(at: &'static str, title: &'static str) -> Self {
        Self { at, title, kind: Kind::Bytes }
    }

    pub(super) const fn time(at: &'static str, title: &'static str) -> Self {
        Self { at, title, kind: Kind::Time }
    }

    pub(super) const fn count(at: &'static str, title: &'static str) -> Self {
        Self { at, title, kind: Kind::Count }
    }

    fn cell(&self, item: &Json) -> String {
        let value = item.pointer(&format!("/{}", self.at)).unwrap_or(&Json::Null);
        shown(value, self.kind)
    }
}

fn shown(value: &Json, kind: Kind) -> String {
    match (value, kind, value.as_u64()) {
        (Json::Null, ..) => "-".to_owned(),
        (Json::Bool(is_so), ..) => if *is_so { "yes" } else { "no" }.to_owned(),
        (Json::Array(items), Kind::Count, _) => items.len().to_string(),
        (_, Kind::Time, Some(seconds)) => time(seconds),
        (_, Kind::Bytes, Some(bytes)) => size(bytes),
        // Nothing that a stranger wrote moves the terminal's cursor.
        (Json::String(text), ..) => {
            text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
        }
        (value, ..) => value.to_string(),
    }
}

fn time(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH);
    // The library shows no later year.
    const YEAR_10000: u64 = 253_402_300_800;
    if seconds >= YEAR_10000 { "never".to_owned() } else { humantime::format_rfc3339_seconds(time).to_string() }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut rest, mut unit) = (bytes, 0);
    while rest >= 10_000 && unit + 1 < UNITS.len() {
        rest = rest.div_ceil(1_000);
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}

/// Shows a list.
pub(super) fn table(call: &Call, items: &[Json]) -> String {
    let Show::Table(columns) = &call.show else { return String::new() };
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let rows = items.iter().map(|item| columns.iter().map(|column| column.cell(item)).collect::<Vec<_>>());
    let rows: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Shows one thing.
pub(super) fn record(call: &Call, answer: &Json) -> String {
    let mut out = String::new();
    match (&call.show, answer["secret"].as_str()) {
        (Show::Secret, Some(secret)) => {
            lines(&mut out, "", &answer["token"]);
            out.push_str("\nIts text is shown this once; whoever has it may come in:\n");
            out.push_str(secret);
            out.push('\n');
        }
        _ => lines(&mut out, "", answer),
    }
    out
}

fn lines(out: &mut String, before: &str, value: &Json) {
    let Json::Object(entries) = value else { return };
    for (name, value) in entries {
        let path = format!("{before}{name}");
        match value {
            Json::Object(_) => lines(out, &format!("{path}."), value),
            Json::Array(items) if items.iter().any(Json::is_object) => {
                for (number, item) in items.iter().enumerate() {
                    lines(out, &format!("{path}[{number}]."), item);
                }
            }
            Json::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| shown(item, Kind::Text)).collect();
                out.push_str(&format!("{path}: {}\n", items.join(", ")));
            }
            value => {
                let is_time =
                    name.ends_with("_seconds") && !name.starts_with("uptime") && value.as_u64() > Some(1 << 30);
                let kind = if is_time { Kind::Time } else { Kind::Text };
                out.push_str(&format!("{path}: {}\n", shown(value, kind)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_and_times_are_short_and_exact_enough() {
        assert_eq!((size(0), size(9_999), size(10_001)), ("0 B".to_owned(), "9999 B".to_owned(), "11 kB".to_owned()));
        assert_eq!(size(u64::MAX), "18446745 TB");
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), "never");
    }

    #[test]
    fn nothing_that_is_shown_moves_the_cursor() {
        assert_eq!(shown(&json!("a\u{1b}[2J\nb"), Kind::Text), "a\\u{1b}[2J\\nb");
        assert_eq!(shown(&json!("Zoë"), Kind::Text), "Zoë");
    }
}
