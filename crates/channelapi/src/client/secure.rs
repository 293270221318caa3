//! TLS between us and the server: whom we trust, and what is wrong when we do not.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, Error, InvalidMessage, client::Resumption, pki_types::ServerName,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Failed, Target, problem::Problem};
use crate::trust::{is_of_authority, trusting};

/// How to make connections to one server secure.
#[derive(Clone)]
pub(super) struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Secure {
    /// None where the server speaks plain HTTP.
    pub(super) fn of(target: &Target) -> Result<Option<Self>, Failed> {
        if !target.server.is_secure() {
            return Ok(None);
        }
        let trusted = trusting(target.ca_file.as_deref());
        let trusted = trusted
            .map_err(|error| Failed(format!("cannot check who {} is: {error} (--ca FILE)", target.server)))?;
        let name = ServerName::try_from(target.server.host().to_owned());
        let name = name.map_err(|_| {
            let server = &target.server;
            Failed(format!("{server} has a name that no certificate can have; write another behind --server"))
        })?;
        Ok(Some(Self { connector: TlsConnector::from(trusted), name }))
    }

    /// The same for clients that have nothing to do with each other: none goes on with the session of another.
    pub(super) fn for_strangers(self) -> Self {
        let mut config = ClientConfig::clone(self.connector.config());
        config.resumption = Resumption::disabled();
        Self { connector: TlsConnector::from(Arc::new(config)), ..self }
    }

    /// Shakes hands.
    pub(super) async fn connect(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), socket).await
    }
}

/// What it means that a handshake failed.
pub(super) fn explain(target: &Target, error: &io::Error) -> Problem {
    let server = &target.server;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidCertificate(fault)) => Problem::Untrusted(untrusted(target, fault)),
        // What is no record of TLS at all.
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Problem::Foreign(format!(
            "what answers at {server} does not speak TLS\n  if the way there is safe without it, write http:// instead of https://"
        )),
        Some(other) => Problem::Foreign(format!(
            "{server} and we do not agree on how to speak TLS: {other}\n  say where the server is with --server or CHANNELAPI_URL"
        )),
        None => Problem::Unreachable(format!("{server} broke off the TLS handshake ({error})")),
    }
}

fn untrusted(target: &Target, fault: &CertificateError) -> String {
    let server = &target.server;
    match fault {
        // A signature is bad, or of another kind, where another authority has the same name.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
            if target.ca_file.is_some() =>
        {
            format!(
                "the certificate of {server} is not signed by the one behind --ca\n  \
             is it the right server? if so, name the certificate of its authority, or its own"
            )
        }
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "the certificate of {server} is signed by nobody whom this machine trusts\n  \
             if it is the right server, name the certificate of its authority, or its own, with --ca FILE"
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => format!(
            "the certificate of {server} is signed in a way that is not taken here\n  \
             have it signed with RSA of 2048 bits or more, ECDSA or Ed25519, and SHA-256 or better"
        ),
        fault if is_of_authority(fault) => format!(
            "{server} shows the certificate of an authority (CA:TRUE), and not one that is trusted here\n  \
             if it is the right server, name this very certificate with --ca FILE, or give it one that an authority signed"
        ),
        CertificateError::NotValidForName => {
            format!("the certificate of {server} is for another name\n  write that one behind --server")
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => format!(
            "the certificate of {server} is for no name: the one in its subject does not count\n  \
             make it with subjectAltName; for openssl, -addext subjectAltName=DNS:{}",
            server.host()
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ");
            format!(
                "the certificate of {server} is for another name: {names}\n  write one of its names behind --server"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!(
                "the certificate of {server} has expired\n  it must be renewed, unless the clock of this machine is wrong"
            )
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {server} is not valid yet\n  is the clock of this machine right?")
        }
        other => format!("the certificate of {server} cannot be trusted: {other}"),
    }
}

/// A name without what the library may write around it: `IpAddress(127.0.0.1)`, `DnsName("push.example.com")`.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').map_or(name, |(_, inside)| inside.trim_end_matches(')'));
    inside.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::super::ServerUrl;
    use super::*;
    use rustls::pki_types::UnixTime;

    fn target(url: &str, ca_file: Option<&str>) -> Target {
        let server = ServerUrl::parse(url).unwrap();
        Target {
            clients: server.clone(),
            server,
            key: None,
            about_key: String::new(),
            ca_file: ca_file.map(Into::into),
            warnings: Vec::new(),
        }
    }

    #[track_caller]
    fn check(ca_file: Option<&str>, error: Error, expected: &str, may_try_again: bool) {
        let target = target("https://push.example", ca_file);
        let problem = explain(&target, &io::Error::new(io::ErrorKind::InvalidData, error));
        let text = problem.explain(&target);
        assert!(text.contains(expected), "{text}");
        assert_eq!((problem.may_try_again(true), problem.is_uncertain()), (may_try_again, false));
    }

    #[test]
    fn a_certificate_that_is_not_trusted_says_what_to_do() {
        let bad = |fault| Error::InvalidCertificate(fault);
        check(None, bad(CertificateError::UnknownIssuer), "with --ca FILE", false);
        check(Some("a"), bad(CertificateError::UnknownIssuer), "not signed by the one behind --ca", false);
        let time = UnixTime::now();
        let expired = CertificateError::ExpiredContext { time, not_after: time };
        check(None, bad(expired), "has expired", false);
        let name = ServerName::try_from("push.example").unwrap();
        let presented = vec!["DnsName(\"a.example\")".to_owned(), "IpAddress(::1)".to_owned()];
        let other = CertificateError::NotValidForNameContext { expected: name, presented };
        check(None, bad(other), "is for another name: a.example, ::1\n", false);
        let name = ServerName::try_from("push.example").unwrap();
        let nameless = CertificateError::NotValidForNameContext { expected: name, presented: Vec::new() };
        check(None, bad(nameless), "-addext subjectAltName=DNS:push.example", false);
        check(None, bad(CertificateError::Revoked), "cannot be trusted: ", false);
        let algorithm = || vec![0x2a];
        let other_kind = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: algorithm(),
            public_key_algorithm_id: algorithm(),
        };
        check(None, bad(other_kind.clone()), "with --ca FILE", false);
        check(Some("a"), bad(other_kind), "not signed by the one behind --ca", false);
        let old = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: algorithm(),
            supported_algorithms: Vec::new(),
        };
        check(None, bad(old), "have it signed with RSA", false);
        check(None, Error::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS", false);
        check(None, Error::HandshakeNotComplete, "do not agree", false);
    }

    #[test]
    fn a_connection_that_breaks_while_shaking_hands_may_be_tried_again() {
        let target = target("https://push.example", None);
        let problem = explain(&target, &io::ErrorKind::UnexpectedEof.into());
        assert!(problem.may_try_again(false));
    }

    #[test]
    fn whom_to_trust_is_looked_up_only_for_tls() {
        assert!(Secure::of(&target("http://a", Some("/nowhere"))).unwrap().is_none());
        let Err(Failed(error)) = Secure::of(&target("https://a", Some("/nowhere"))) else {
            panic!("there is no such file")
        };
        assert!(error.starts_with("cannot check who https://a is: /nowhere: "), "{error}");
    }
}
