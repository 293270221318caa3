//! Where the server listens: in public, for publishers alone, and on the plain port that leads to HTTPS.

use super::{EXIT_CONFIG, Face, Failure, Server};
use crate::banner::Places;
use crate::config::Config;
use crate::config::value::AcmeChallenge;
use crate::listener::{Bound, Entry, HttpConnections, Listener, Place};
use crate::redirect::Redirect;
use crate::reload::{Change, Part};
use crate::tls::{AcmeSettings, Certificates, Challenge, PairFiles, Sources, Tls, Wanted, may_pass};
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::warn;

/// The listeners, opened and not yet served.
pub(super) struct Front {
    public: Listener,
    internal: Option<Listener>,
    redirect: Option<Listener>,
    redirect_port: Option<u16>,
    tls: Option<Tls>,
}

impl Front {
    /// Opens what is configured.
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        let tls = tls_of(config)?;
        for warning in tls.iter().flat_map(|tls| &tls.warnings) {
            warn!("{warning}");
        }
        Ok(Self {
            public: public_listener(config, tls.as_ref())?,
            internal: internal_listener(config)?,
            redirect: redirect_listener(config)?,
            redirect_port: config.tls.redirect_port,
            tls,
        })
    }

    /// The certificate of the public listener, if it speaks TLS.
    pub(super) fn certificates(&self) -> Option<Arc<Certificates>> {
        self.tls.as_ref().map(|tls| tls.certificates.clone())
    }

    /// What changes when the configuration is read again.
    pub(super) fn reloading(&self) -> Option<Box<dyn Part>> {
        let tls = self.tls.as_ref()?;
        Some(Box::new(ChangingCertificate {
            sources: tls.sources.clone(),
            redirect_port: self.redirect_port,
        }))
    }

    /// Where they are found.
    pub(super) fn places(&self) -> io::Result<Places> {
        let place = |listener: &Option<Listener>| listener.as_ref().map(Listener::place).transpose();
        let (internal, redirect) = (place(&self.internal)?, place(&self.redirect)?);
        Ok(Places { public: self.public.place()?, internal, redirect })
    }

    /// Serves on all of them, and looks after the certificate, until it is dropped.
    pub(super) async fn serve(self, server: &Arc<Server>, requests: &HttpConnections) -> Infallible {
        let face = |is_for_clients, is_for_publishers| {
            Arc::new(Face { server: server.clone(), is_for_clients, is_for_publishers })
        };
        let https_port = match self.public.place() {
            Ok(Place::Port { address, .. }) => address.port(),
            _ => 0,
        };
        let public = self.public.serve(face(true, self.internal.is_none()), requests);
        let internal = async {
            match self.internal {
                Some(listener) => listener.serve(face(false, true), requests).await,
                None => pending().await,
            }
        };
        let redirect = async {
            match (self.redirect, &self.tls) {
                (Some(listener), Some(tls)) => {
                    let service = Redirect { port: https_port, proofs: tls.proofs.clone() };
                    listener.serve(Arc::new(service), requests).await
                }
                _ => pending().await,
            }
        };
        let certificate = async {
            match &self.tls {
                Some(tls) => tls.sources.keep_up().await,
                None => pending().await,
            }
        };
        tokio::select! {
            never = public => never,
            never = internal => never,
            never = redirect => never,
            never = certificate => never,
        }
    }
}

/// The certificate, when the configuration is read again. Whether there is TLS at all waits for a restart.
struct ChangingCertificate {
    sources: Arc<Sources>,
    /// The plain port that is listened on.
    redirect_port: Option<u16>,
}

impl ChangingCertificate {
    /// What the configuration wants, if that can be begun with now. An authority that asks on a plain port would not be heard on
    /// one that is not open yet.
    fn wanted(&self, config: &Config) -> Option<Wanted> {
        let is_heard = |wanted: &Wanted| match wanted {
            Wanted::Authority(AcmeSettings { challenge: Challenge::Http, .. }) => {
                config.tls.redirect_port == self.redirect_port
            }
            _ => true,
        };
        wanted_certificate(config).filter(is_heard)
    }
}

impl Part for ChangingCertificate {
    fn options(&self, config: &Config) -> &'static [&'static str] {
        match self.wanted(config) {
            Some(_) => &["tls.reload_interval", "tls.cert", "tls.key", "acme."],
            None => &["tls.reload_interval"],
        }
    }

    fn prepare(&self, config: &Config) -> anyhow::Result<Change> {
        let (sources, interval) = (self.sources.clone(), config.tls.reload_interval);
        let other = match self.wanted(config) {
            Some(wanted) => sources.prepare(wanted)?,
            None => None,
        };
        Ok(Box::new(move || {
            sources.look_every(interval);
            if let Some(other) = other {
                sources.change_to(other);
            }
        }))
    }
}

/// Where the certificate should come from, if TLS is wanted.
fn wanted_certificate(config: &Config) -> Option<Wanted> {
    if let (Some(certificate), Some(key)) = (&config.tls.cert, &config.tls.key) {
        return Some(Wanted::Files(PairFiles { certificate: certificate.0.clone(), key: key.0.clone() }));
    }
    let domains = config.acme.domains.as_ref()?;
    Some(Wanted::Authority(AcmeSettings {
        domains: domains.0.clone(),
        email: config.acme.email.as_ref().map(|email| email.0.clone()),
        directory: config.acme.directory.0.clone(),
        ca_file: config.acme.ca_file.as_ref().map(|path| path.0.clone()),
        challenge: match config.acme.challenge {
            AcmeChallenge::TlsAlpn => Challenge::TlsAlpn,
            AcmeChallenge::Http => Challenge::Http,
        },
    }))
}

/// TLS, if it is wanted.
fn tls_of(config: &Config) -> Result<Option<Tls>, Failure> {
    let tls = wanted_certificate(config)
        .map(|wanted| Tls::new(wanted, config.tls.reload_interval, &config.data_dir))
        .transpose();
    // A start in the middle of a renewal, or before the clock is set, is worth another.
    tls.map_err(|error| Failure { code: if may_pass(&error) { 1 } else { EXIT_CONFIG }, error })
}

fn redirect_listener(config: &Config) -> anyhow::Result<Option<Listener>> {
    let Some(port) = config.tls.redirect_port else { return Ok(None) };
    let bound = Bound::tcp(SocketAddr::new(config.address, port), "--tls-redirect-")?;
    Ok(Some(Listener::new(bound, public_entry(config))))
}

fn public_listener(config: &Config, tls: Option<&Tls>) -> anyhow::Result<Listener> {
    let bound = match &config.http.unix {
        Some(path) => Bound::unix(path)?,
        None => Bound::tcp(SocketAddr::new(config.address, config.port), "--")?,
    };
    let tls = tls.map(|tls| tls.config.clone());
    Ok(Listener::new(bound, Entry { tls, ..public_entry(config) }))
}

/// How clients come in, before TLS: a proxy in front of HTTPS is in front of the plain port beside it, too.
fn public_entry(config: &Config) -> Entry {
    Entry {
        trusted_proxies: config.http.trusted_proxies.clone(),
        proxy_protocol: config.http.proxy_protocol,
        tls: None,
    }
}

fn internal_listener(config: &Config) -> anyhow::Result<Option<Listener>> {
    let bound = match (&config.internal.unix, config.internal.port) {
        (Some(path), _) => Bound::unix(path)?,
        (None, Some(port)) => Bound::tcp(SocketAddr::new(config.internal.address, port), "--internal-")?,
        (None, None) => return Ok(None),
    };
    let trusted_proxies = config.http.trusted_proxies.clone();
    Ok(Some(Listener::new(bound, Entry { trusted_proxies, ..Entry::default() })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;
    use crate::config::{env, load};
    use crate::cores;
    use crate::tls::Proofs;
    use channelapi_core::clock::Clock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    #[test]
    fn a_proxy_leads_to_https_as_it_speaks_for_its_clients_there() {
        let variables = [
            ("CHANNELAPI_ADDRESS", "127.0.0.1"),
            ("CHANNELAPI_TLS_CERT", "cert.pem"),
            ("CHANNELAPI_TLS_KEY", "key.pem"),
            ("CHANNELAPI_TLS_REDIRECT_PORT", "0"),
            ("CHANNELAPI_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
            ("CHANNELAPI_HTTP_PROXY_PROTOCOL", "true"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let config = load(vec![], None, env::load(variables), &[]).unwrap();
        let answered = cores::run(1, async |cores| {
            let listener = redirect_listener(&config).unwrap().unwrap();
            let Ok(Place::Port { address, .. }) = listener.place() else { panic!("it has a port") };
            let requests = HttpConnections::new(Admission::unlimited(Clock::system()), cores);
            let service = Arc::new(Redirect { port: 443, proofs: Arc::new(Proofs::default()) });
            let asking = async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let header = "PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n";
                let request = "GET /a HTTP/1.1\r\nHost: push.example.com\r\nConnection: close\r\n\r\n";
                stream.write_all([header, request].concat().as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answer
            };
            tokio::select! {
                never = listener.serve(service, &requests) => match never {},
                answer = asking => answer,
            }
        });
        let answer = answered.unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 308 "), "{answer}");
        assert!(answer.contains("\r\nlocation: https://push.example.com/a\r\n"), "{answer}");
    }
}
