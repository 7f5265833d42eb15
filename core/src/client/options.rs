//! How a relay is connected to: whose word for it is believed, what it is shown, and what is spoken.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "client")]
use rustls::pki_types::CertificateDer;
#[cfg(feature = "client")]
use rustls::pki_types::pem::PemObject;
#[cfg(feature = "client")]
use rustls::{ClientConfig, RootCertStore};
#[cfg(feature = "client")]
use tokio_tungstenite::Connector;

use crate::codec::v1::Token;
#[cfg(feature = "client")]
use crate::repo::RepoError;
use crate::runtime::{BoxFuture, MaybeSend, timeout};

/// What is spoken with a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Our own: spaces, resuming by cursor, receipts.
    RejoinV1,
    /// That of automerge-repo, which every server of that world speaks.
    Classic,
}

/// How long it may take to get a token.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(not(target_family = "wasm"))]
type Ask = dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync;
#[cfg(target_family = "wasm")]
type Ask = dyn Fn() -> BoxFuture<'static, Result<String, String>>;

/// Where tokens come from.
#[derive(Clone)]
pub(super) struct Provider(Arc<Ask>);

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl Provider {
    /// Gets a token; the error says why there is none.
    pub(super) async fn ask(&self) -> Result<Token, String> {
        match timeout(PROVIDER_TIMEOUT, (self.0)()).await {
            Ok(token) => token.map(Token::new),
            Err(_) => Err("it takes too long".to_owned()),
        }
    }
}

/// How a relay is connected to: by default as a browser would, trusting the public authorities.
///
#[cfg_attr(feature = "client", doc = "```")]
#[cfg_attr(not(feature = "client"), doc = "```ignore")]
/// use rejoin::{ConnectOptions, Repo, RepoError};
///
/// fn connect(repo: &Repo, pem: &[u8]) -> Result<rejoin::Connection, RepoError> {
///     let options = ConnectOptions::new().root_certificates(pem)?;
///     repo.connect_with("wss://relay.home.arpa", &options)
/// }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ConnectOptions {
    /// `None` for the public authorities.
    #[cfg(feature = "client")]
    roots: Option<RootCertStore>,
    token: Token,
    provider: Option<Provider>,
    protocol: Option<Protocol>,
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts relays that these certificates vouch for, and no others: not the public authorities either. For a relay with
    /// a certificate of its own or of a private authority. Default: the public authorities, as Mozilla lists them.
    ///
    /// `pem` holds one certificate or more in text, as in a `.pem` or `.crt` file; those of several calls add up. A
    /// self-signed one vouches for itself unless it is marked as an authority's (`CA:TRUE`). Changes nothing for `ws://`.
    ///
    /// # Errors
    ///
    /// [`RepoError::Certificates`] if there is no certificate in it, or one that does not parse.
    #[cfg(feature = "client")]
    pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self, RepoError> {
        let wrong = |reason: String| RepoError::Certificates { reason };
        let roots = self.roots.get_or_insert_with(RootCertStore::empty);
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
        Ok(self)
    }

    /// Shows this token to the relay, which knows by it who connects and what that one may do. It never shows in a log.
    ///
    /// Only `rejoin.v1` carries it. Default: none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Token::new(token);
        self.provider = None;
        self
    }

    /// Gets tokens from here, instead of having one: before each connection, and in time before the last one ends, at 80 % of the
    /// life that the relay says it has. The connection goes on with the new one without a break.
    ///
    /// If there is none to be had the connection is tried again later, or goes on until the last token ends. Waits 30 s at most for
    /// a token. The error is for the log and [`ConnectionState::Waiting`](super::ConnectionState::Waiting); it must not hold
    /// secrets.
    ///
    /// ```
    /// use rejoin::ConnectOptions;
    ///
    /// # async fn fetch_token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let options = ConnectOptions::new().token_with(|| fetch_token());
    /// ```
    pub fn token_with<T, E>(mut self, ask: impl Fn() -> T + MaybeSend + Sync + 'static) -> Self
    where
        T: Future<Output = Result<String, E>> + MaybeSend + 'static,
        E: fmt::Display,
    {
        self.provider = Some(Provider(Arc::new(move || {
            let asked = ask();
            Box::pin(async move { asked.await.map_err(|error| error.to_string()) })
        })));
        self
    }

    /// Speaks this protocol and no other. Default: `rejoin.v1` where the server speaks it, and the classic one elsewhere.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    pub(super) fn shown_token(&self) -> &Token {
        &self.token
    }

    pub(super) fn provider(&self) -> Option<&Provider> {
        self.provider.as_ref()
    }

    pub(super) fn only_protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Returns what makes TLS connections; `None` for the default. The process has a provider of cryptography by now.
    #[cfg(feature = "client")]
    pub(super) fn connector(&self) -> Option<Connector> {
        let roots = self.roots.clone()?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Some(Connector::Rustls(Arc::new(config)))
    }
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_refused() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        for pem in ["", "some text", key, damaged, cut] {
            let refused = ConnectOptions::new().root_certificates(pem.as_bytes());
            let shown = refused.map(|_| ()).expect_err("no certificate is in it").to_string();
            assert!(shown.starts_with("failed to read the root certificates: "), "{shown}");
        }
    }
}
