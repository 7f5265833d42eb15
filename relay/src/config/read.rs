//! Where the configuration comes from: the arguments, the environment, the file.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::builder::PathBufValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

use super::keys::{KEYS, Key, SECTIONS};
use super::nearest::nearest;
use super::{Config, ConfigError, check};

/// The beginning of every variable.
const VARIABLES: &str = "REJOIN_RELAY_";
/// Variables of that beginning that are no keys: the file's, and what the commands for the admin API read.
const OTHER_VARIABLES: [&str; 3] = ["REJOIN_RELAY_CONFIG", "REJOIN_RELAY_ADMIN_URL", "REJOIN_RELAY_ADMIN_TOKEN"];
/// Those that Kubernetes sets in every container because of a service of the name `rejoin-relay`.
const KUBERNETES: [&str; 3] = ["REJOIN_RELAY_SERVICE_", "REJOIN_RELAY_PORT_", "REJOIN_RELAY_PORT"];
/// The longest configuration file in bytes: 1 MiB. Something else was named by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// An argument, with its dashes.
    Argument(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) | Self::Argument(name) => f.write_str(name),
        }
    }
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A configuration, and where each of its values comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The sources, in the order of [`KEYS`].
    pub sources: Vec<Source>,
}

/// What an operator wrote, before it is looked at: the arguments and variables as they are, and which file.
#[derive(Clone, Default)]
pub struct RawConfig {
    /// The file.
    pub file: Option<PathBuf>,
    /// Names and values of variables that begin with `REJOIN_RELAY_`, and `RUST_LOG`.
    pub variables: Vec<(String, String)>,
    /// For keys by their place in [`KEYS`]: how the argument was written, and its value.
    pub(crate) arguments: Vec<(usize, String, String)>,
}

/// Shows names, no values: there may be a secret among them.
impl fmt::Debug for RawConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        let arguments: Vec<_> = self.arguments.iter().map(|(_, name, _)| name).collect();
        f.debug_struct("RawConfig")
            .field("file", &self.file)
            .field("variables", &variables)
            .field("arguments", &arguments)
            .finish()
    }
}

impl RawConfig {
    /// Reads the file and puts everything together. It may be read again later: the file is, the rest stays as it was.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with all that is wrong.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let Reading { config, sources, mut errors } = self.read();
        if config.data.as_os_str().is_empty() {
            errors.push(ConfigError::NoData);
        }
        if errors.is_empty() { Ok(Loaded { config, sources }) } else { Err(ConfigErrors(errors)) }
    }

    /// Does as [`RawConfig::load`], but does not mind that no directory for the data is named.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with all that is wrong otherwise.
    pub fn peek(&self) -> Result<Config, ConfigErrors> {
        let Reading { config, errors, .. } = self.read();
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
    }

    /// Puts together what can be read, and gathers what is wrong with it.
    pub(super) fn read(&self) -> Reading {
        let sources = vec![Source::Default; KEYS.len()];
        let mut reading = Reading { config: Config::of_binary(), sources, errors: Vec::new() };
        if let Some(path) = &self.file {
            reading.file(path);
        }
        reading.variables(&self.variables);
        for (index, name, text) in &self.arguments {
            reading.text(*index, text, Source::Argument(name.clone()));
        }
        check::values(&reading.config, &|index| reading.sources[index].clone(), &mut reading.errors);
        check::together(&reading.config, &mut reading.errors);
        reading
    }

    /// Sets a key as an argument would. `false` if there is no such key.
    pub fn set(&mut self, path: &str, text: &str) -> bool {
        let index = KEYS.iter().position(|key| key.path() == path);
        let named = index.map(|index| (index, format!("--{}", KEYS[index].flag()), text.to_owned()));
        self.arguments.extend(named);
        index.is_some()
    }
}

/// What was read so far.
pub(super) struct Reading {
    pub(super) config: Config,
    sources: Vec<Source>,
    pub(super) errors: Vec<ConfigError>,
}

impl Reading {
    fn text(&mut self, index: usize, text: &str, source: Source) {
        let key = &KEYS[index];
        let taken = (key.parse)(&mut self.config, text);
        let shown = if key.is_secret { String::new() } else { format!(" = {text:?}") };
        self.taken(index, taken, source, &shown);
    }

    fn taken(&mut self, index: usize, taken: Result<(), String>, source: Source, shown: &str) {
        if let Err(why) = taken {
            let (place, key) = (source.to_string(), KEYS[index].path() + shown);
            self.errors.push(ConfigError::Value { place, key, why });
        }
        self.sources[index] = source;
    }

    fn variables(&mut self, variables: &[(String, String)]) {
        let names: Vec<_> = KEYS.iter().map(Key::variable).collect();
        let old_names: Vec<_> = KEYS.iter().map(old_variable).collect();
        for (name, text) in variables {
            let old = old_names.iter().position(|old| old.as_ref() == Some(name));
            let index = names.iter().position(|known| known == name);
            // Where both are set, the name of now counts.
            if let Some(index) = index.or(old.filter(|old| variables.iter().all(|(other, _)| *other != names[*old]))) {
                self.text(index, text, Source::Variable(name.clone()));
            } else if old.is_none() && is_meant_for_us(name) {
                let nearest = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
                let place = "the environment".to_owned();
                self.errors.push(ConfigError::Unknown { place, found: name.clone(), nearest });
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let text = match read_file(path) {
            Ok(text) => text,
            Err(why) => return self.errors.push(ConfigError::File { path: path.display().to_string(), why }),
        };
        let source = |span: Range<usize>| Source::File { path: path.to_owned(), line: line(&text, span.start) };
        let document = match DeTable::parse(&text) {
            Ok(document) => document,
            Err(error) => {
                let place = source(error.span().unwrap_or(0..0)).to_string();
                return self.errors.push(ConfigError::Syntax { place, why: error.message().replace('\n', ", ") });
            }
        };
        for (name, value) in document.get_ref() {
            let (name, place) = (name.get_ref().as_ref(), source(name.span()));
            match value.get_ref() {
                DeValue::Table(section) if SECTIONS.iter().any(|(known, _)| *known == name) => {
                    for (inner, value) in section {
                        let place = source(inner.span());
                        self.line(name, inner.get_ref(), value.get_ref(), place);
                    }
                }
                DeValue::Table(_) => {
                    let nearest = nearest(name, SECTIONS.iter().map(|(known, _)| *known));
                    let nearest = nearest.map(|name| format!("[{name}]"));
                    let found = format!("[{name}]");
                    self.errors.push(ConfigError::Unknown { place: place.to_string(), found, nearest });
                }
                value => self.line("", name, value, place),
            }
        }
    }

    fn line(&mut self, section: &str, name: &str, value: &DeValue<'_>, place: Source) {
        let Some(index) = KEYS.iter().position(|key| key.section == section && key.name == name) else {
            let found = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let paths: Vec<_> = KEYS.iter().map(Key::path).collect();
            // The right name in the wrong section is the likeliest slip.
            let elsewhere = KEYS.iter().position(|key| key.name == name).map(|index| paths[index].clone());
            let nearest = elsewhere.or_else(|| nearest(&found, paths.iter().map(String::as_str)).map(str::to_owned));
            return self.errors.push(ConfigError::Unknown { place: place.to_string(), found, nearest });
        };
        let taken = (KEYS[index].take)(&mut self.config, value);
        self.taken(index, taken, place, "");
    }
}

fn is_meant_for_us(name: &str) -> bool {
    let is_other = OTHER_VARIABLES.contains(&name) || name == KUBERNETES[2];
    name.starts_with(VARIABLES) && !is_other && !KUBERNETES[..2].iter().any(|start| name.starts_with(start))
}

/// Returns the name that a key's variable had before, or has for all programs.
fn old_variable(key: &Key) -> Option<String> {
    if key.section == "log" && key.name == "filter" {
        return Some("RUST_LOG".to_owned());
    }
    key.old_name().map(|name| format!("{VARIABLES}{}", name.to_uppercase()))
}

fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(read).is_ok_and(|read| read > FILE_BYTES_MAX) {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// Returns the line of a place in a text, from 1.
fn line(text: &str, place: usize) -> usize {
    let before = text.as_bytes().get(..place).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

impl clap::Args for RawConfig {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config").long("config").value_name("FILE").env("REJOIN_RELAY_CONFIG");
        let file = file.value_parser(PathBufValueParser::new()).help("TOML file with any of the keys below");
        command.arg(file).args(KEYS.iter().enumerate().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The names of the arguments, in the order of [`KEYS`]: the library keeps names only for as long as the program runs.
static FLAGS: LazyLock<Vec<String>> = LazyLock::new(|| KEYS.iter().map(Key::flag).collect());
/// Under which heading they stand in the help.
static HEADINGS: LazyLock<Vec<String>> =
    LazyLock::new(|| KEYS.iter().map(|key| format!("Section [{}]", key.section)).collect());
/// The names they had before.
static OLD_FLAGS: LazyLock<Vec<Option<String>>> =
    LazyLock::new(|| KEYS.iter().map(|key| key.old_name().map(|name| name.replace('_', "-"))).collect());

fn argument((index, key): (usize, &'static Key)) -> Arg {
    let flag = FLAGS[index].as_str();
    let mut arg = Arg::new(flag).long(flag).action(ArgAction::Set);
    arg = arg.help(format!("{} [env: {}]", key.meaning(), key.variable()));
    arg = arg.value_name(match key.unit() {
        "path" => "PATH",
        "address" => "ADDR",
        "true or false" => "BOOL",
        "text" => "TEXT",
        unit if unit.starts_with("list") => "LIST",
        _ if key.range.is_some() => "NUMBER",
        _ => "VALUE",
    });
    if let Some(old) = &OLD_FLAGS[index] {
        arg = arg.alias(old.as_str());
    }
    if !key.section.is_empty() {
        arg = arg.help_heading(HEADINGS[index].as_str());
    }
    if key.kind == "true or false" {
        arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    arg
}

impl clap::FromArgMatches for RawConfig {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut raw = Self::default();
        raw.update_from_arg_matches(matches)?;
        Ok(raw)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        self.variables = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.to_string_lossy().into_owned())))
            .filter(|(name, _)| name.starts_with(VARIABLES) || name == "RUST_LOG")
            .collect();
        self.arguments.clear();
        for index in 0..KEYS.len() {
            let flag = &FLAGS[index];
            if matches.value_source(flag) == Some(ValueSource::CommandLine)
                && let Some(text) = matches.get_one::<String>(flag)
            {
                self.arguments.push((index, format!("--{flag}"), text.clone()));
            }
        }
        Ok(())
    }
}
