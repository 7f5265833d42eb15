//! The commands that make, check and restore backups, with their progress on a terminal.

use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rejoin::care::Report;
use rejoin::store::Store;
use serde_json::json;

use super::{Manifest, RestoreOptions, RestoreProgress, Step, check, online, rehearse, restore};
use crate::care::record;
use crate::show::hex;
use crate::start::{STORE_FILE, open_file};

/// The arguments of `rejoin-relay restore`.
#[derive(Debug, Clone, clap::Args)]
pub struct RestoreArgs {
    /// A full backup, and then, in their order, those that follow it
    #[arg(long, value_name = "DIR", required = true, num_args = 1..)]
    pub from: Vec<PathBuf>,
    /// Directory for the restored relay's data; it must be empty or not there
    #[arg(long, env = "REJOIN_RELAY_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Keep the storage id: for moving a relay whose original is never started again
    #[arg(long)]
    pub same_id: bool,
    /// Write one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Backs a store up into a directory, and says what was backed up.
///
/// # Errors
///
/// What went wrong, to be put after "failed to ".
pub(crate) fn back_up(
    store: &dyn Store,
    to: &std::path::Path,
    since: Option<&std::path::Path>,
    out: &mut dyn Write,
) -> Result<(), String> {
    let since = since.map(Manifest::read).transpose().map_err(|error| format!("read the backup: {error}"))?;
    let mut shown = Shown::new();
    let done = online(store, to, since.as_ref(), &mut |progress| {
        shown.show("reading the store", progress.fraction, progress.stored_bytes);
        ControlFlow::Continue(())
    });
    shown.end();
    let manifest = done.map_err(|error| format!("back up: {error}"))?;
    let written: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let what = if manifest.is_full() { "everything" } else { "what came since" };
    let Manifest { rows, documents, changes, .. } = &manifest;
    let to = to.display();
    let line = format!(
        "backed up {what}: {rows} rows of {documents} documents with {changes} changes, {written} bytes, to {to}"
    );
    say(out, &line);
    Ok(())
}

/// Makes a relay's data of backups, and says what was restored.
///
/// # Errors
///
/// What went wrong, to be put after "failed to ".
pub fn restore_data(args: &RestoreArgs, out: &mut dyn Write) -> Result<(), String> {
    let mut shown = Shown::new();
    let options = RestoreOptions { same_id: args.same_id };
    let restored = restore(&args.from, &args.data, &options, &mut |progress| shown.show_step(progress));
    shown.end();
    let restored = restored.map_err(|error| format!("restore: {error}"))?;
    let store = open_file(args.data.join(STORE_FILE)).map_err(|error| error.to_string())?;
    record(&store, "store.restore", None)?;
    let Manifest { documents, changes, change_bytes, made_seconds, .. } = &restored.manifest;
    let text = if args.json {
        json!({
            "backups": restored.backups,
            "documents": documents,
            "changes": changes,
            "change_bytes": change_bytes,
            "tombstones": restored.manifest.tombstones,
            "made_seconds": made_seconds,
            "epoch": hex(restored.epoch.as_bytes()),
            "storage_id": restored.storage.to_string(),
        })
        .to_string()
    } else {
        format!(
            "restored {documents} documents, {changes} changes, {change_bytes} bytes of changes, as they were at second \
             {made_seconds}, from {} backups; the relay has a new epoch, so devices compare when they connect and bring \
             what is missing",
            restored.backups
        )
    };
    say(out, &text);
    Ok(())
}

/// Checks backups: their files and hashes, and unless it is to be `quick`, by restoring them into a directory of `scratch` that is deleted
/// again. Returns whether all is sound.
///
/// # Errors
///
/// What went wrong, to be put after "failed to ".
pub(crate) fn verify(
    from: &[PathBuf],
    scratch: Option<PathBuf>,
    quick: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<bool, String> {
    let mut shown = Shown::new();
    let mut report: Option<Report> = None;
    let outcome = if quick {
        check(from, &mut |progress| shown.show_step(progress)).map(|mut manifests| manifests.pop())
    } else {
        let scratch = scratch.unwrap_or_else(std::env::temp_dir);
        rehearse(from, &scratch, &mut |progress| shown.show_step(progress)).map(|(restored, found)| {
            report = Some(found);
            Some(restored.manifest)
        })
    };
    shown.end();
    let manifest = outcome.map_err(|error| format!("restore the backup: {error}"))?;
    let sound = report.as_ref().is_none_or(Report::is_sound);
    let Some(manifest) = manifest else { return Ok(sound) };
    let text = match (report, as_json) {
        (Some(report), true) => report.to_json().to_string(),
        (Some(report), false) => report.to_string(),
        (None, true) => {
            json!({ "sound": true, "documents": manifest.documents, "changes": manifest.changes }).to_string()
        }
        (None, false) => {
            let Manifest { documents, changes, .. } = manifest;
            format!("{documents} documents, {changes} changes: the backup's files are what was written")
        }
    };
    say(out, &text);
    Ok(sound)
}

/// One line on a terminal that says how far something is.
pub(crate) struct Shown {
    is_terminal: bool,
    last: Option<Instant>,
}

/// How often the line is written.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

impl Shown {
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), last: None }
    }

    /// Writes the line anew, if the last one is old enough.
    pub(crate) fn show(&mut self, what: &str, fraction: f64, bytes: u64) {
        self.line(|| format!("{what}: {:3.0} %, {:.1} MB", fraction * 100.0, bytes as f64 / 1e6));
    }

    /// Writes the line anew with counts, if the last one is old enough.
    pub(crate) fn show_counts(&mut self, what: &str, progress: rejoin::care::Progress) {
        self.line(|| format!("{what}: {} documents, {} rows", progress.documents, progress.rows));
    }

    fn show_step(&mut self, progress: RestoreProgress) -> ControlFlow<()> {
        let what = match progress.step {
            Step::Checking => "checking the files",
            Step::Loading => "restoring",
            Step::Verifying => "checking every change",
        };
        self.show(what, progress.fraction, progress.bytes);
        ControlFlow::Continue(())
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        if !self.is_terminal || self.last.is_some_and(|last| last.elapsed() < SHOWN_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let mut err = io::stderr().lock();
        // To the beginning of the line, and what stood there goes. A closed terminal is nobody's fault.
        let _ = write!(err, "\r{}\x1b[K", text()).and_then(|()| err.flush());
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if self.last.take().is_some() {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
        }
    }
}

/// Writes a line; a closed pipe is nobody's fault.
fn say(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
