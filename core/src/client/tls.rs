//! TLS: what to do when nobody trusted vouches for a relay.

use rustls::{CertificateError, InvalidMessage};
use tokio_tungstenite::tungstenite::Error;

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
    fn every_other_failure_is_shown_as_it_is() {
        let refused = Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        assert_eq!(reason(&refused), refused.to_string());
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let shown = reason(&Error::Io(std::io::Error::other(expired)));
        assert!(shown.ends_with("renew it, or set this device's clock"), "{shown}");
    }
}
