//! TLS: whose word for a relay is believed, and what to do when nobody trusted gives it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use tokio_tungstenite::Connector;
use tokio_tungstenite::tungstenite::Error;

use crate::repo::RepoError;

/// How a relay is connected to: by default as a browser would, trusting the public authorities.
///
/// ```
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
    roots: Option<RootCertStore>,
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

    /// Returns what makes TLS connections; `None` for the default. The process has a provider of cryptography by now.
    pub(super) fn connector(&self) -> Option<Connector> {
        let roots = self.roots.clone()?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Some(Connector::Rustls(Arc::new(config)))
    }
}

/// Says why a connection could not be made, and what to do where that is known.
pub(super) fn reason(error: &Error) -> String {
    let Error::Io(io) = error else { return error.to_string() };
    match io.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(wrong)) => {
            format!("the relay's certificate is not trusted: {wrong}: {}", remedy(wrong))
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "no TLS is spoken there: is it the port of the proxy that has the certificate, or is ws:// meant?"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// Says what to do about a certificate.
fn remedy(wrong: &CertificateError) -> &'static str {
    match wrong {
        // The signature is bad where the relay's certificate was made anew under the name of one that is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "if the relay is yours, give its certificate or its authority's to ConnectOptions::root_certificates"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew it, or set this device's clock",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name that it is made for"
        }
        _ => "the relay needs another one",
    }
}

#[cfg(test)]
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

    #[test]
    fn every_other_failure_is_shown_as_it_is() {
        let refused = Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        assert_eq!(reason(&refused), refused.to_string());
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let shown = reason(&Error::Io(std::io::Error::other(expired)));
        assert!(shown.ends_with("renew it, or set this device's clock"), "{shown}");
    }
}
