//! A notebook for the terminal: every note is a document, and two notebooks meet at a relay.
//!
//! ```text
//! cargo run --example notes -- --store /tmp/a.redb add "Groceries"
//! cargo run --example notes -- --store /tmp/a.redb set <id> text "milk, bread"
//! cargo run --example notes -- --store /tmp/a.redb sync ws://127.0.0.1:3030
//! cargo run --example notes -- --store /tmp/b.redb sync ws://127.0.0.1:3030 <id>
//! cargo run --example notes -- --store /tmp/b.redb show
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use rejoin::{ConnectionState, DocHandle, DocumentId, Repo};

#[derive(Parser)]
#[command(about = "A notebook that works apart and rejoins later")]
struct Arguments {
    /// The file that holds the notes on this device.
    #[arg(long, default_value = "notes.redb")]
    store: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Adds a note and prints its id.
    Add { title: String },
    /// Sets a field of a note.
    Set { id: DocumentId, field: String, value: String },
    /// Shows one note, or all of them.
    Show { id: Option<DocumentId> },
    /// Shows who changed a note, and when.
    Log { id: DocumentId },
    /// Merges with a relay: all notes of this device, and those named here.
    Sync { url: String, ids: Vec<DocumentId> },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("notes: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let repo = Repo::open(arguments.store).await?;
    match arguments.command {
        Command::Add { title } => {
            let note = repo.create().await?;
            note.set("title", title).await?;
            println!("{}", note.id());
        }
        Command::Set { id, field, value } => {
            open(&repo, id).await?.set(field.as_str(), value).await?;
        }
        Command::Show { id } => {
            let ids = id.map_or(repo.list().await?, |id| vec![id]);
            for id in ids {
                println!("{id} {}", open(&repo, id).await?.to_json().await?);
            }
        }
        Command::Log { id } => {
            for entry in open(&repo, id).await?.history().await? {
                println!("{} {} #{} ({} ops)", entry.time_seconds, entry.actor, entry.seq, entry.op_count);
            }
        }
        Command::Sync { url, ids } => sync(&repo, &url, &ids).await?,
    }
    Ok(())
}

async fn open(repo: &Repo, id: DocumentId) -> Result<DocHandle, Box<dyn Error>> {
    repo.find(id).await?.ok_or_else(|| format!("there is no note {id} here: `sync URL {id}` fetches it").into())
}

async fn sync(repo: &Repo, url: &str, ids: &[DocumentId]) -> Result<(), Box<dyn Error>> {
    let mut connection = repo.connect(url)?;
    let state = connection.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await;
    if let ConnectionState::Waiting { reason, .. } = state {
        return Err(format!("{reason}; the notes stay safe here").into());
    }
    for id in ids {
        let note = repo.open_or_fetch(*id).await?;
        note.wait_for_content(Duration::from_secs(10)).await?;
    }
    connection.wait_caught_up(Duration::from_secs(10)).await?;
    repo.wait_synced(Duration::from_secs(10)).await?;
    println!("{} notes, {} changes pending", repo.list().await?.len(), repo.pending().await?);
    connection.disconnect().await;
    Ok(())
}
