//! Logging: what the relay says of itself while it runs, by `tracing`, for people or for programs.
//!
//! ```text
//! event -> filter (the operator's, reloadable) -> cap (ours, fixed) -> throttle -> standard error, a file, a collector by OTLP
//! ```
//!
//! Three laws hold whatever the operator asks for:
//!
//! 1. No token, no content of a document and no text of a peer that was not escaped and cut stands in a line. Libraries below us
//!    know no such law, so they are heard only when they warn (`cap`).
//! 2. An event's message is its name: it is the same for every event of its kind, and all that differs is in fields.
//! 3. Nobody outside can fill the disk: of each kind of line so many come in a time, and how many were left out is said later
//!    (`throttle`).

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::LogFormat;
use crate::limits::LOG_REPORT_INTERVAL;
use crate::metrics::Metrics;

#[cfg(feature = "otlp")]
pub mod otlp;
mod throttle;

use throttle::Throttle;

/// Why nothing can be logged like that. The text completes "failed to ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter cannot be read.
    #[error("read the filter of the log {found:?}: {detail}; write it like info or info,rejoin_relay=debug")]
    Filter {
        /// What was written.
        found: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Somebody logs already.
    #[error("begin to log: something in this process logs already")]
    Taken,
    /// The file cannot be written.
    #[error("write the log to {}: {source}; name a file in a folder that the relay may write, or leave log.file out", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Where events should be sent to cannot be used.
    #[error("send the log to {endpoint:?}: {detail}")]
    Otlp {
        /// What was written.
        endpoint: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// What is logged from now on, and how.
#[derive(Debug)]
pub struct LogOptions<'o> {
    /// For whom.
    pub format: LogFormat,
    /// From which level on, as in `info` or `info,rejoin_relay=debug`.
    pub filter: &'o str,
    /// Whether lines go to standard error.
    pub stderr: bool,
    /// A file that every line is added to.
    pub file: Option<&'o Path>,
    /// Where spans and events are sent to as well; only with the feature `otlp`.
    pub otlp_endpoint: Option<&'o str>,
}

/// The log of this process.
#[derive(Debug, Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    throttle: Arc<Throttle>,
    metrics: Arc<Metrics>,
    exporter: Exporter,
}

/// Checks the text of a filter.
///
/// # Errors
///
/// [`LogError::Filter`].
pub fn check_filter(text: &str) -> Result<(), LogError> {
    filter(text).map(drop)
}

fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let parsed = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(text);
    parsed.map_err(|error| LogError::Filter { found: text.to_owned(), detail: error.to_string() })
}

/// Lets through what is ours, and of libraries what they warn of. At their finer levels they write what they send and receive:
/// frames, headers, and the tokens in them.
fn cap() -> Targets {
    let ours = LevelFilter::TRACE;
    Targets::new().with_default(LevelFilter::WARN).with_target("rejoin", ours).with_target("rejoin_relay", ours)
}

/// Returns what a line is written to. A line is one write, so several processes may share the file, and it may be cut short
/// under them (as logrotate's `copytruncate` does).
fn writer(options: &LogOptions<'_>) -> Result<BoxMakeWriter, LogError> {
    let open = |path: &Path| {
        let opened = File::options().create(true).append(true).open(path);
        opened.map_err(|source| LogError::File { path: path.to_owned(), source })
    };
    Ok(match (options.stderr, options.file.map(open).transpose()?) {
        (true, Some(file)) => BoxMakeWriter::new(std::io::stderr.and(file)),
        (true, None) => BoxMakeWriter::new(std::io::stderr),
        (false, Some(file)) => BoxMakeWriter::new(file),
        (false, None) => BoxMakeWriter::new(std::io::sink),
    })
}

impl Logging {
    /// Begins to log.
    ///
    /// # Errors
    ///
    /// [`LogError`].
    pub fn start(options: &LogOptions<'_>, metrics: &Arc<Metrics>) -> Result<Self, LogError> {
        let (filter, handle) = reload::Layer::new(filter(options.filter)?);
        let throttle = Arc::new(Throttle::default());
        let lines = tracing_subscriber::fmt::layer().with_writer(writer(options)?);
        let lines = lines.with_ansi(options.file.is_none() && std::io::stderr().is_terminal());
        let lines = match options.format {
            LogFormat::Human => lines.boxed(),
            LogFormat::Json => lines.json().with_span_list(false).boxed(),
        };
        let exporter = exporter(options)?;
        let sinks = lines.and_then(exporter.clone()).with_filter(throttle::Kept(Arc::clone(&throttle)));
        let subscriber = Registry::default().with(filter).with(cap()).with(sinks);
        subscriber.try_init().map_err(|_| LogError::Taken)?;
        // Of libraries that log by the crate `log` nothing finer is let through, and asking the layers about each of their lines,
        // some for every look at a socket, was a tenth of the work of telling a change to its readers.
        log::set_max_level(log::LevelFilter::Warn);
        Ok(Self { filter: handle, throttle, metrics: Arc::clone(metrics), exporter })
    }

    /// Logs by another filter from now on.
    ///
    /// # Errors
    ///
    /// [`LogError::Filter`]; the old one goes on then.
    pub fn set_filter(&self, text: &str) -> Result<(), LogError> {
        let filter = filter(text)?;
        self.filter
            .reload(filter)
            .map_err(|error| LogError::Filter { found: text.to_owned(), detail: error.to_string() })
    }

    /// Says every [`LOG_REPORT_INTERVAL`] which lines were left out, for ever: a task of its own.
    pub async fn report(self) {
        let mut tick = tokio::time::interval(LOG_REPORT_INTERVAL);
        loop {
            tick.tick().await;
            self.report_once();
        }
    }

    /// Waits until a collector has what was logged so far, or a moment is over. It blocks.
    pub fn flush(&self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = &self.exporter {
            exporter.flush(crate::limits::OTLP_TIMEOUT);
        }
    }

    fn report_once(&self) {
        for (what, lines) in self.throttle.take_left_out() {
            self.metrics.log_lines_left_out(lines);
            let (file, line) = (what.file().unwrap_or(what.target()), what.line());
            tracing::warn!(lines, file, line, "log lines were left out: too many like them came");
        }
    }
}

/// What sends to a collector, if there is one.
#[cfg(feature = "otlp")]
type Exporter = Option<otlp::Otlp>;

#[cfg(feature = "otlp")]
fn exporter(options: &LogOptions<'_>) -> Result<Exporter, LogError> {
    options.otlp_endpoint.map(otlp::Otlp::start).transpose()
}

/// Nothing sends anywhere.
#[cfg(not(feature = "otlp"))]
type Exporter = Option<tracing_subscriber::layer::Identity>;

#[cfg(not(feature = "otlp"))]
fn exporter(options: &LogOptions<'_>) -> Result<Exporter, LogError> {
    match options.otlp_endpoint {
        None => Ok(None),
        Some(endpoint) => {
            let detail = "this relay was built without it: build it with --features otlp".to_owned();
            Err(LogError::Otlp { endpoint: endpoint.to_owned(), detail })
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Mutex;

    use tracing::subscriber::with_default;

    use super::*;

    #[test]
    fn filter_that_is_none_is_refused_with_what_was_written() {
        assert!(check_filter("info,rejoin_relay=debug").is_ok());
        assert!(check_filter("").is_ok());
        let error = check_filter("rejoin_relay=loud").unwrap_err().to_string();
        assert!(error.contains("rejoin_relay=loud"), "{error}");
    }

    #[test]
    fn libraries_are_heard_only_when_they_warn() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        let fmt = tracing_subscriber::fmt::layer().with_writer(move || Sink(Arc::clone(&writer)));
        let subscriber = Registry::default().with(filter("trace").unwrap()).with(cap()).with(fmt);
        with_default(subscriber, || {
            tracing::trace!(target: "tungstenite::protocol", "a frame with a secret");
            tracing::info!(target: "hyper::proto", "a header with a secret");
            tracing::warn!(target: "hyper::proto", "something is wrong");
            tracing::trace!(target: "rejoin_relay::v1", "ours");
        });
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("secret") && text.contains("something is wrong") && text.contains("ours"), "{text}");
    }

    #[test]
    fn what_libraries_trace_is_not_even_looked_at() {
        let (format, filter) = (LogFormat::Human, "trace");
        let options = LogOptions { format, filter, stderr: false, file: None, otlp_endpoint: None };
        // It is the only one of this process that begins to log.
        let _logging = Logging::start(&options, &Arc::default()).unwrap();
        assert_eq!(log::max_level(), log::LevelFilter::Warn);
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
