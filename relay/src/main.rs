//! The `rejoin-relay` binary: parses arguments, and leaves the rest to the library.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;
use rejoin::fold::{FoldCommand, child_main};
use rejoin_relay::backup::command::{self, RestoreArgs};
use rejoin_relay::care::{self, BackupArgs, CompactArgs, PurgeArgs, RepairArgs, ReportArgs, VerifyArgs};
use rejoin_relay::config::{LogConfig, RawConfig};
use rejoin_relay::logging::{LogOptions, Logging};
use rejoin_relay::metrics::{Metrics, watch_panics};
use rejoin_relay::operate::{self, ConfigCommand, HealthArgs};
use rejoin_relay::reload::Reloader;
use rejoin_relay::remote::{self, AdminArgs};
use rejoin_relay::{start, tls};
use tokio::signal::unix::{Signal, SignalKind, signal};

mod systemd;

/// Stores, validates and forwards the changes of offline-first applications.
#[derive(Debug, Parser)]
#[command(name = "rejoin-relay", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// The name of [`Command::FoldChild`].
const FOLD_CHILD: &str = "fold-child";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the relay until SIGTERM or SIGINT; a second one ends it at once
    Serve(RawConfig),
    /// Look at the configuration without running anything
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask a running relay whether it is ready; ends with 1 if it is not
    Healthcheck(HealthArgs),
    /// Copy a stopped relay's data into a new file, or back it up into a directory
    Backup(BackupArgs),
    /// Make a relay's data of a full backup and those that follow it
    Restore(RestoreArgs),
    /// Check a stopped relay's data, or backups; ends with 1 if anything is wrong
    Verify(VerifyArgs),
    /// Compute the records of one document of a stopped relay anew from its changes
    Repair(RepairArgs),
    /// Make a stopped relay's data as small as it gets, with every change still in it
    Compact(CompactArgs),
    /// Count what is in a stopped relay's data
    Stats(ReportArgs),
    /// Delete a document everywhere, and leave none of its bytes in a stopped relay's data
    Purge(PurgeArgs),
    /// Ask a running relay's admin API for something
    Admin(AdminArgs),
    /// What the relay starts itself as, to fold a document under limits
    #[command(hide = true)]
    FoldChild,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            // Help and version, which clap prints to standard output. A closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&format!("read the arguments: {}; see rejoin-relay --help", complaint(&error))),
    };
    let out = &mut std::io::stdout();
    let outcome = match arguments.command {
        Command::Serve(raw) => serve(raw).map(|()| true),
        Command::Config(command) => operate::config(&command, out, &mut std::io::stderr()),
        Command::Healthcheck(args) => operate::healthcheck(&args, out),
        Command::Admin(args) => remote::run(&args, out),
        Command::FoldChild => return child_main(std::io::stdin().lock(), std::io::stdout().lock()),
        Command::Backup(args) => care::backup(&args, out).map(|()| true),
        Command::Restore(args) => command::restore_data(&args, out).map(|()| true),
        Command::Verify(args) => care::verify(&args, out),
        Command::Repair(args) => care::repair(&args, out).map(|()| true),
        Command::Compact(args) => care::compact(&args, out).map(|()| true),
        Command::Stats(args) => care::stats(&args, out).map(|()| true),
        Command::Purge(args) => care::purge(&args, out).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        // What is wrong was said.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn serve(raw: RawConfig) -> Result<(), String> {
    let loaded = raw.load().map_err(|errors| format!("read the configuration: {errors}"))?;
    let mut config = loaded.config;
    let fold = FoldCommand::this_executable(FOLD_CHILD);
    config.fold = Some(fold.map_err(|error| format!("find the relay's own executable: {error}"))?);
    tls::load(&config).map_err(|error| error.to_string())?;
    let store = start::open_store(&config).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("start the runtime: {error}"))?;
    let outcome = runtime.block_on(async {
        let listener = start::bind(&config).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| format!("listen on {}: {error}", config.listen))?;
        // From here on the log says what happens; what keeps the relay from starting is one line of text.
        let metrics = Arc::new(Metrics::new());
        let log = log_to_stderr(&config.log, &metrics)?;
        watch_panics(&metrics);
        start::raise_file_limit(&config.limits)
            .iter()
            .chain(&config.warnings())
            .for_each(|text| tracing::warn!("{text}"));
        config.notes().iter().for_each(|text| tracing::info!("{text}"));
        let (http, ws) = if config.tls.cert_file.is_some() { ("https", "wss") } else { ("http", "ws") };
        let reloader = Reloader::new(raw, config);
        let current = reloader.subscribe();
        // Installed before the relay says that it listens: whoever reads that may stop it at once.
        let stop = stop_signal().map_err(|error| format!("wait for signals: {error}"))?;
        let hangup = signal(SignalKind::hangup()).map_err(|error| format!("wait for signals: {error}"))?;
        tokio::spawn(reload_at(hangup, reloader, log.clone()));
        let stop = async move {
            // The relay waits for this once everything listens, the admin API too.
            announce(&format!("listening on {http}://{address} (WebSocket: {ws}://{address})"));
            systemd::ready();
            stop.await;
            systemd::stopping();
        };
        let outcome = tokio::select! {
            outcome = rejoin_relay::run_reloading(listener, store, current, metrics, stop) => outcome,
            () = systemd::keep_alive() => Ok(()),
        };
        tokio::task::block_in_place(|| log.flush());
        outcome.map_err(|error| format!("run the relay: {error}"))
    });
    // A connection that was cut may still hold a thread.
    runtime.shutdown_background();
    outcome
}

/// Reads the configuration again at every SIGHUP, and when the admin API asks for it.
async fn reload_at(mut hangup: Signal, mut reloader: Reloader, log: Logging) {
    let current = reloader.subscribe();
    loop {
        let asked = tokio::select! {
            Some(()) = hangup.recv() => None,
            Some(asked) = reloader.requested() => Some(asked),
            else => return,
        };
        systemd::reloading();
        let reloaded = reloader.reload();
        if reloaded.is_ok()
            && let Err(error) = log.set_filter(&current.borrow().log.filter)
        {
            tracing::error!(%error, "the filter of the log stays as it was");
        }
        systemd::ready();
        // Who asked may have given up.
        asked.into_iter().for_each(|asked| drop(asked.send(reloaded.clone())));
    }
}

/// Returns what is ready at the first SIGTERM or SIGINT. The second ends the process at once: every moment is a good one
/// to be killed, so nothing is left to do.
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut stop = Some(stop);
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match stop.take() {
                // The relay may be ending by itself.
                Some(stop) => drop(stop.send(())),
                None => std::process::exit(1),
            }
        }
    });
    Ok(async {
        let _ = stopped.await;
    })
}

/// Begins to log, and to say which lines were left out.
fn log_to_stderr(config: &LogConfig, metrics: &Arc<Metrics>) -> Result<Logging, String> {
    let LogConfig { format, filter, file, otlp_endpoint } = config;
    let otlp_endpoint = otlp_endpoint.as_deref();
    let options = LogOptions { format: *format, filter, stderr: true, file: file.as_deref(), otlp_endpoint };
    let logging = Logging::start(&options, metrics).map_err(|error| error.to_string())?;
    tokio::spawn(logging.clone().report());
    Ok(logging)
}

/// Prints a line that programs read: to standard output, which may be closed without harm.
fn announce(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn fail(what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "rejoin-relay: failed to {}", what.replace('\n', " "));
    ExitCode::FAILURE
}

/// Puts the first paragraph of clap's error, which may list arguments, on one line.
fn complaint(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no command was given".to_owned();
    }
    let error = error.to_string();
    let words: Vec<_> = error.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let mut text = words.join(" ");
    if let Some(tip) = error.lines().find_map(|line| line.trim().strip_prefix("tip: ")) {
        text = format!("{text}; {tip}");
    }
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}
