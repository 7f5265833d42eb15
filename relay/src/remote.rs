//! `rejoin-relay admin`: a client of the admin API, for people (tables) and for programs (`--json`, the API's own JSON).
//!
//! ```text
//! arguments -> Call (method, path, body, how to show it) -> HTTP -> table, JSON or file
//! ```
//!
//! What is shown of a secret goes to standard output and nowhere else; progress and hints go to standard error.

use std::io::Write;
use std::path::PathBuf;

mod args;
mod call;
mod http;
mod show;

pub use args::Noun;

use call::{Call, Show};
use http::Remote;

use crate::admin::TOKEN_FILE;

/// The arguments of `rejoin-relay admin`.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminArgs {
    /// Where the admin API is
    #[arg(
        long,
        global = true,
        overrides_with = "url",
        env = "REJOIN_ADMIN_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:3031"
    )]
    pub url: String,
    /// File with the credential; default: admin-token in --data
    #[arg(
        long,
        global = true,
        overrides_with = "token_file",
        env = "REJOIN_RELAY_ADMIN_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,
    /// Directory of the relay's data, where the credential is
    #[arg(long, global = true, env = "REJOIN_RELAY_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write the API's JSON instead of text for people
    #[arg(long, global = true)]
    pub json: bool,
    /// What it is about.
    #[command(subcommand)]
    pub noun: Noun,
}

/// Asks a running relay for something, and shows the answer. Returns whether all is well: a check that finds damage is no
/// error.
///
/// # Errors
///
/// What went wrong and what to do about it, to be put after "failed to ".
pub fn run(args: &AdminArgs, out: &mut dyn Write) -> Result<bool, String> {
    let token = token(args)?;
    let call = call::of(&args.noun)?;
    let remote = Remote::new(&args.url, token);
    match &call.show {
        Show::Download(to) => remote.download(&call, to).map(|bytes| {
            say(out, &format!("wrote {bytes} bytes to {}", to.display()));
            true
        }),
        Show::Job if !call.waits => print(args, out, &call, &remote.ask(&call)?),
        Show::Job => {
            let job = remote.wait(remote.ask(&call)?)?;
            print(args, out, &call, &job)
        }
        Show::Table(_) if args.json => print(args, out, &call, &remote.page(&call)?),
        Show::Table(_) => {
            let (items, next) = remote.pages(&call)?;
            say(out, show::table(&call, &items).trim_end());
            if let Some(next) = next {
                // A closed pipe is nobody's fault.
                let _ = writeln!(std::io::stderr(), "there is more: --after '{next}'");
            }
            Ok(true)
        }
        _ => print(args, out, &call, &remote.ask(&call)?),
    }
}

fn print(args: &AdminArgs, out: &mut dyn Write, call: &Call, answer: &serde_json::Value) -> Result<bool, String> {
    let text = if args.json { answer.to_string() } else { show::record(call, answer) };
    say(out, text.trim_end());
    let is_sound = answer["result"].get("sound").and_then(serde_json::Value::as_bool);
    match answer["state"].as_str() {
        Some("failed") => {
            let error = &answer["error"];
            let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
            Err(format!("carry out the job: {}: {} ({})", text("title"), text("detail"), text("code")))
        }
        _ => Ok(is_sound.unwrap_or(true)),
    }
}

/// Reads the credential.
fn token(args: &AdminArgs) -> Result<String, String> {
    let path = match (&args.token_file, &args.data) {
        (Some(file), _) => file.clone(),
        (None, Some(data)) => data.join(TOKEN_FILE),
        (None, None) => {
            let how = "name the relay's data directory with --data, or a file with --token-file";
            return Err(format!("find the credential of the admin API: {how}"));
        }
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let hint = "the relay makes it when it first starts; only its own user may read it";
        format!("read the credential {}: {error}; {hint}", path.display())
    })?;
    Ok(text.trim().to_owned())
}

/// Writes a line; a closed pipe is nobody's fault.
fn say(out: &mut dyn Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
