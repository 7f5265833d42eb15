//! How the configuration is shown: the effective one, the example, the documentation. Secrets are never in it.

use std::fmt::Write as _;

use super::keys::{KEYS, Key, SECTIONS};
use super::{Config, Loaded, Source};

impl Config {
    /// Writes the effective configuration as TOML, every key, without secrets. What is not set is a comment.
    pub fn to_toml(&self) -> String {
        written(self, |_, _| String::new())
    }

    /// Writes the effective configuration as JSON, an object for each section, without secrets; what is not set is null.
    pub fn to_json(&self) -> serde_json::Value {
        let mut root = serde_json::Map::new();
        for key in KEYS {
            // What is shown is TOML of one line, which the parser knows.
            let read = |text: String| toml::from_str::<serde_json::Map<_, _>>(&format!("value = {text}")).ok();
            let value = (key.show)(self).and_then(read).and_then(|mut table| table.remove("value"));
            let value = value.unwrap_or(serde_json::Value::Null);
            if key.section.is_empty() {
                root.insert(key.name.to_owned(), value);
            } else if let Some(section) =
                root.entry(key.section).or_insert_with(|| serde_json::json!({})).as_object_mut()
            {
                section.insert(key.name.to_owned(), value);
            }
        }
        serde_json::Value::Object(root)
    }

    /// Returns the keys that another configuration has otherwise.
    pub fn changed(&self, other: &Self) -> Vec<&'static Key> {
        KEYS.iter().filter(|key| !(key.is_same)(self, other)).collect()
    }

    /// Returns what runs on after another configuration was read: its values where a reload applies them, and ours elsewhere.
    pub fn reloaded(&self, other: &Self) -> Self {
        let mut next = self.clone();
        for key in KEYS.iter().filter(|key| key.is_live) {
            (key.copy)(&mut next, other);
        }
        next
    }
}

impl Loaded {
    /// Writes the effective configuration as [`Config::to_toml`] does, and beside each value where it comes from.
    pub fn to_toml(&self) -> String {
        written(&self.config, |index, _| match &self.sources[index] {
            Source::Default => String::new(),
            source => format!("  # {source}"),
        })
    }
}

fn written(config: &Config, comment: impl Fn(usize, &Key) -> String) -> String {
    let mut text = String::new();
    let mut section = "";
    for (index, key) in KEYS.iter().enumerate() {
        if key.section != section {
            section = key.section;
            let _ = writeln!(text, "\n[{section}]");
        }
        let comment = comment(index, key);
        // Writing to a String cannot fail.
        let _ = match (key.show)(config) {
            Some(value) => writeln!(text, "{} = {value}{comment}", key.name),
            None => writeln!(text, "# {} is not set{comment}", key.name),
        };
    }
    text
}

/// Makes the page of all keys, in Markdown.
pub fn documentation() -> String {
    let defaults = Config::of_binary();
    let mut page = String::from(
        "# Configuration\n\n\
         Every key below is a line of the TOML file that `--config FILE` (or `REJOIN_RELAY_CONFIG`) names, a variable of the\n\
         environment and an argument: `limits.connections_max` is `connections_max` under `[limits]`,\n\
         `REJOIN_RELAY_LIMITS_CONNECTIONS_MAX` and `--limits-connections-max`. An argument beats a variable, a variable the file, the\n\
         file the default. A key that does not exist is an error. Lists are written with commas in variables and arguments, `auth.keys`\n\
         as TOML.\n\n\
         `rejoin-relay config check` says what is wrong and prints what counts, without secrets. On SIGHUP the relay reads the file\n\
         again: keys marked \"reload\" change at once, the others at the next start, and a file with a mistake changes nothing.\n\n\
         This page is made by `rejoin-relay config docs`; a test compares it.\n\n## At the top\n",
    );
    let mut section = "";
    let head = "\n| Key | Unit | Default | Range | Changes | Meaning |\n|---|---|---|---|---|---|\n";
    page.push_str(head);
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let about = SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, about)| about.trim());
            let _ = write!(page, "\n## [{section}]\n\n{about}\n{head}");
        }
        let default = (key.show)(&defaults).map_or_else(|| "not set".to_owned(), |value| format!("`{value}`"));
        let range = key.range.map_or_else(String::new, |(least, most)| format!("{least} to {most}"));
        let changes = if key.is_live { "reload" } else { "restart" };
        let _ = writeln!(
            page,
            "| `{}` | {} | {default} | {range} | {changes} | {} |",
            key.name,
            key.unit(),
            key.meaning().replace('|', "\\|")
        );
    }
    page
}

/// Makes the example of a file: every key with its default and what it means.
pub fn example() -> String {
    let defaults = Config { data: "/var/lib/rejoin-relay".into(), ..Config::of_binary() };
    let mut text = String::from(
        "# The configuration of a Rejoin relay: every key, with its default. Keep the lines that you change.\n\
         # `rejoin-relay config check --config FILE` says whether it makes sense; relay/docs/config.md has ranges and units.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push('\n');
            let about = SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, about)| about.trim());
            commented(&mut text, about);
            let _ = writeln!(text, "[{section}]");
        }
        text.push('\n');
        commented(&mut text, key.meaning());
        // Writing to a String cannot fail.
        let _ = match (key.show)(&defaults) {
            Some(value) => writeln!(text, "{} = {value}", key.name),
            None => writeln!(text, "# {} = \"\"", key.name),
        };
    }
    text
}

/// The longest line of the example.
const LINE_CHARS_MAX: usize = 100;

fn commented(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            let _ = writeln!(text, "{line}");
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}
