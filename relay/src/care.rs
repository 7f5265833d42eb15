//! Care for a stopped relay's data: `backup`, `restore`, `verify`, `repair`, `compact`, `stats` and `purge`.
//!
//! All but `repair`, `compact` and `purge` open the store for reading only, so it may stand on a disk that is full or read-only; a store that is
//! in use is refused. One of an older format is migrated by `serve` and refused here.

use std::io::Write;
use std::path::{Path, PathBuf};

use rejoin::DocumentId;
use rejoin::care::{self, BackupOptions, CopyId, Fault, Registers, Report, VerifyOptions};
use rejoin::store::{RedbStore, Store, StoreError, Table, storage_id};

use crate::backup::command::{self, Shown};
use crate::start::{self, STORE_FILE};

/// Where the data is.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// Directory of the relay's data
    #[arg(long, env = "REJOIN_RELAY_DATA", value_name = "DIR")]
    pub data: PathBuf,
}

/// The arguments of `rejoin-relay backup`.
#[derive(Debug, Clone, clap::Args)]
pub struct BackupArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// File to write the copy to, a store that can be used as it is; it must not be there
    #[arg(long, value_name = "FILE", required_unless_present = "to_dir")]
    pub to: Option<PathBuf>,
    /// Directory to write a backup to, for `restore`; it must not be there
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    pub to_dir: Option<PathBuf>,
    /// Directory of an earlier backup: write only what came since
    #[arg(long, value_name = "DIR", requires = "to_dir")]
    pub since: Option<PathBuf>,
    /// Keep the storage id in the copy: for moving a relay whose original is never started again
    #[arg(long, conflicts_with = "to_dir")]
    pub same_id: bool,
}

/// The arguments of `rejoin-relay verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// Directory of the relay's data
    #[arg(long, env = "REJOIN_RELAY_DATA", value_name = "DIR", required_unless_present = "from")]
    pub data: Option<PathBuf>,
    /// Check backups instead: a full one, and then, in their order, those that follow it
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub from: Vec<PathBuf>,
    /// Where backups are restored to be checked, and deleted again; the system's directory for temporary files by default
    #[arg(long, value_name = "DIR", requires = "from")]
    pub scratch: Option<PathBuf>,
    /// Only hold the backups' files against their hashes, and restore nothing
    #[arg(long, requires = "from")]
    pub quick: bool,
    /// Write one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `rejoin-relay stats`.
#[derive(Debug, Clone, clap::Args)]
pub struct ReportArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// Write one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `rejoin-relay repair`.
#[derive(Debug, Clone, clap::Args)]
pub struct RepairArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// Document to repair, as verify names it
    #[arg(long, value_name = "ID")]
    pub document: DocumentId,
}

/// The arguments of `rejoin-relay compact`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompactArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// The arguments of `rejoin-relay purge`.
#[derive(Debug, Clone, clap::Args)]
pub struct PurgeArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// Document to purge; it need not be there any more
    #[arg(long, value_name = "ID")]
    pub document: DocumentId,
}

/// Copies a stopped relay's store into a new file, and says what was copied.
///
/// # Errors
///
/// What went wrong, to be put after "failed to ".
pub fn backup(args: &BackupArgs, out: &mut dyn Write) -> Result<(), String> {
    let store = open(&args.data.data)?;
    if let Some(to) = &args.to_dir {
        return command::back_up(&store, to, args.since.as_deref(), out);
    }
    // One of the two is required.
    let Some(to) = &args.to else { return Ok(()) };
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("get random bytes from the operating system: {error}"))?;
    let id = if args.same_id { CopyId::Same } else { CopyId::New(random) };
    let mut shown = Shown::new();
    let done = care::backup(&store, to, &BackupOptions::new(id), &mut |done| shown.show_counts("copying", done));
    shown.end();
    let done = done.map_err(|error| completing(&error))?;
    say(out, &format!("backed up {} rows, {} bytes, to {}", done.rows, done.bytes, to.display()));
    Ok(())
}

/// Checks a stopped relay's store, or backups, and says what is wrong. Returns whether all is sound.
///
/// # Errors
///
/// As [`backup`]; damage of a store is no error, that of a backup's files is.
pub fn verify(args: &VerifyArgs, out: &mut dyn Write) -> Result<bool, String> {
    let data = match &args.data {
        Some(data) if args.from.is_empty() => data,
        _ => return command::verify(&args.from, args.scratch.clone(), args.quick, args.json, out),
    };
    let store = open(data)?;
    let mut shown = Shown::new();
    let report = check_store(&store, &mut |done| shown.show_counts("checking", done));
    shown.end();
    let report = report.map_err(|error| format!("check the store: {error}"))?;
    let text = if args.json { report.to_json().to_string() } else { report.to_string() };
    say(out, &text);
    Ok(report.is_sound())
}

/// Checks a relay's store: what every store has, the directory of principals, tokens and grants, and the audit trail.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read at all. Damage is no error but a finding.
pub fn check_store(store: &dyn Store, progress: &mut dyn FnMut(care::Progress)) -> Result<Report, StoreError> {
    let mut report = care::verify(store, &VerifyOptions::new(Registers::Absent), progress)?;
    let tx = store.read()?;
    let own = [(Table::Directory, crate::auth::check(&*tx)), (Table::Audit, crate::audit::check(&*tx))];
    for (table, outcome) in own {
        match outcome {
            Err(StoreError::Damaged { .. }) => report.add(None, Fault::Table { table }),
            outcome => outcome?,
        }
    }
    Ok(report)
}

/// Computes the records of a document of a stopped relay anew from its changes.
///
/// # Errors
///
/// As [`backup`]; nothing was changed then.
pub fn repair(args: &RepairArgs, out: &mut dyn Write) -> Result<(), String> {
    let store = start::open_file(find(&args.data.data)?).map_err(|error| error.to_string())?;
    let done = care::repair(&store, args.document, Registers::Absent).map_err(|error| completing(&error))?;
    record(&store, "document.repair", Some(&args.document))?;
    say(out, &format!("repaired a document of {} changes", done.changes));
    Ok(())
}

/// Makes a stopped relay's store as small as it gets.
///
/// # Errors
///
/// As [`backup`]; nothing is lost then.
pub fn compact(args: &CompactArgs, out: &mut dyn Write) -> Result<(), String> {
    let store = start::open_file(find(&args.data.data)?).map_err(|error| error.to_string())?;
    let mut shown = Shown::new();
    let done = care::compact(&store, &mut |done| shown.show_counts("packing", done));
    shown.end();
    let done = done.map_err(|error| format!("compact the store: {error}"))?;
    record(&store, "store.compact", None)?;
    let care::Compacted { packed, bytes_before, bytes_after } = done;
    say(out, &format!("packed {packed} changes; the file took {bytes_before} bytes and takes {bytes_after} now"));
    Ok(())
}

/// Counts what is in a stopped relay's store.
///
/// # Errors
///
/// As [`backup`].
pub fn stats(args: &ReportArgs, out: &mut dyn Write) -> Result<(), String> {
    let store = open(&args.data.data)?;
    let mut shown = Shown::new();
    let stats = care::stats_with(&store, &mut |done| shown.show_counts("counting", done));
    shown.end();
    let stats = stats.map_err(|error| format!("read the store: {error}"))?;
    let text = if args.json { stats.to_json().to_string() } else { stats.to_string().trim_end().to_owned() };
    say(out, &text);
    Ok(())
}

/// Deletes a document everywhere and leaves none of its bytes in a stopped relay's store. Devices hear of it when they
/// connect.
///
/// # Errors
///
/// As [`backup`]. If the document was deleted and only its bytes could not be, the relay tries again when it is started.
pub fn purge(args: &PurgeArgs, out: &mut dyn Write) -> Result<(), String> {
    let store = start::open_file(find(&args.data.data)?).map_err(|error| error.to_string())?;
    rejoin::migrate::migrate(&store).map_err(|error| completing(&error))?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("get random bytes from the operating system: {error}"))?;
    let id = storage_id(&store, random).map_err(|error| completing(&error))?;
    let gone = crate::purge(&store, &args.document, &id.to_string()).map_err(|error| completing(&error))?;
    record(&store, "document.purge", Some(&args.document))?;
    let when = if gone { "its bytes are gone from the store" } else { "its bytes go when the relay is started" };
    say(out, &format!("purged the document; {when}; backups and snapshots of the disk are for you to delete"));
    Ok(())
}

/// Puts an act into the audit trail, once it is done.
pub(crate) fn record(store: &RedbStore, action: &str, document: Option<&DocumentId>) -> Result<(), String> {
    let target = document.map(|document| format!("document/{document}"));
    let written = crate::audit::record_offline(store, action, target);
    written.map_err(|error| format!("put on record what was done ({action}; it is done): {error}"))
}

/// Opens the store that is there for reading; none is made.
fn open(data: &Path) -> Result<RedbStore, String> {
    start::open_file_with(find(data)?, RedbStore::open_read_only).map_err(|error| error.to_string())
}

fn find(data: &Path) -> Result<PathBuf, String> {
    let path = data.join(STORE_FILE);
    if path.exists() { Ok(path) } else { Err(format!("find the store file {}: check --data", path.display())) }
}

/// Takes away the beginning that the caller puts before every error.
fn completing(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to ").unwrap_or(&text).to_owned()
}

/// Writes a line; a closed pipe is nobody's fault.
fn say(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
