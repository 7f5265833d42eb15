//! The small commands for operators: is the configuration right, is the relay well.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ureq::tls::TlsConfig;

use crate::config::{Config, RawConfig, documentation, example};

/// How long a relay may take to say that it is well: 3 s, as container runtimes wait.
const HEALTH_DEADLINE: Duration = Duration::from_secs(3);

/// The commands about the configuration.
#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with the configuration, or print what counts, without secrets
    Check(RawConfig),
    /// Print the page of all keys, in Markdown
    Docs,
    /// Print a file with every key and its default
    Example,
}

/// The arguments of `rejoin-relay healthcheck`.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// What to ask; else /readyz of the admin listener, or of the public one if there is none
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    config: RawConfig,
}

/// Carries out one of the commands about the configuration. `false` if something is wrong with it, which was said then.
///
/// # Errors
///
/// If nothing can be printed.
pub fn config(command: &ConfigCommand, out: &mut dyn Write, complaints: &mut dyn Write) -> Result<bool, String> {
    let printed = match command {
        ConfigCommand::Check(raw) => check(raw, out, complaints),
        ConfigCommand::Docs => write!(out, "{}", documentation()).map(|()| true),
        ConfigCommand::Example => write!(out, "{}", example()).map(|()| true),
    };
    printed.map_err(|error| format!("print: {error}"))
}

fn check(raw: &RawConfig, out: &mut dyn Write, complaints: &mut dyn Write) -> std::io::Result<bool> {
    let loaded = match raw.load() {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in &errors.0 {
                writeln!(complaints, "error: {error}")?;
            }
            return Ok(false);
        }
    };
    let tls = crate::tls::load(&loaded.config);
    if let Err(error) = &tls {
        writeln!(complaints, "error: failed to {error}")?;
    }
    for warning in loaded.config.warnings() {
        writeln!(complaints, "warning: {warning}")?;
    }
    for note in loaded.config.notes() {
        writeln!(complaints, "note: {note}")?;
    }
    write!(out, "{}", loaded.to_toml())?;
    Ok(tls.is_ok())
}

/// Asks a relay whether it is ready. `false` if it is not, and why is printed.
///
/// # Errors
///
/// If nobody can be asked.
pub fn healthcheck(args: &HealthArgs, out: &mut dyn Write) -> Result<bool, String> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => ready_url(&args.config.peek().map_err(|errors| format!("read the configuration: {errors}"))?)?,
    };
    // It is this host that is asked, under an address that no certificate names.
    let tls = TlsConfig::builder().disable_verification(args.url.is_none()).build();
    let agent = ureq::Agent::config_builder().timeout_global(Some(HEALTH_DEADLINE)).tls_config(tls);
    let agent = agent.http_status_as_error(false).max_redirects(0).proxy(None).build().new_agent();
    let mut answer = agent.get(&url).call().map_err(|error| format!("ask {url}: {error}"))?;
    let is_ready = answer.status().is_success();
    let text = answer.body_mut().with_config().limit(1 << 10).read_to_string().unwrap_or_default();
    let _ = writeln!(out, "{} {}", answer.status().as_u16(), text.lines().next().unwrap_or_default());
    Ok(is_ready)
}

/// Returns where the relay of this configuration says whether it is ready.
fn ready_url(config: &Config) -> Result<String, String> {
    let (listen, has_tls) = if config.admin.enabled {
        (config.admin.listen, false)
    } else {
        (config.listen, config.tls.cert_file.is_some())
    };
    if listen.port() == 0 {
        return Err("find the relay: it listens on a port that is not known before; name it with --url".to_owned());
    }
    let scheme = if has_tls { "https" } else { "http" };
    let address = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(format!("{scheme}://{}/readyz", SocketAddr::new(address, listen.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_is_asked_where_it_listens() {
        let mut config = Config::new("", "0.0.0.0:3030".parse().expect("an address"));
        assert_eq!(ready_url(&config).as_deref(), Ok("http://127.0.0.1:3030/readyz"));
        config.tls.cert_file = Some("cert.pem".into());
        assert_eq!(ready_url(&config).as_deref(), Ok("https://127.0.0.1:3030/readyz"));
        config.admin.enabled = true;
        assert_eq!(ready_url(&config).as_deref(), Ok("http://127.0.0.1:3031/readyz"));
        config.admin.listen = "[::]:0".parse().expect("an address");
        assert!(ready_url(&config).is_err());
    }
}
