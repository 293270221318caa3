//! Where the server listens, and which of these settings go together.

use std::net::IpAddr;

use super::{
    options::{Config, spec},
    source::{Problem, Source},
    value::AcmeChallenge,
};

/// Less memory is a size whose unit was forgotten.
const MEMORY_MIN: usize = 1 << 20;

/// What cannot be meant.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let checks = [
        (
            config.http.proxy_protocol && config.http.trusted_proxies.is_none(),
            "http.proxy_protocol",
            "no proxy is trusted to send it; name those that do in http.trusted_proxies",
        ),
        (
            config.tls.cert.is_some() && config.tls.key.is_none(),
            "tls.cert",
            "a certificate is of no use without its key; set tls.key, too",
        ),
        (
            config.tls.key.is_some() && config.tls.cert.is_none(),
            "tls.key",
            "a key is of no use without its certificate; set tls.cert, too",
        ),
        (
            config.acme.domains.is_some() && config.tls.cert.is_some(),
            "acme.domains",
            "tls.cert is set, too; keep the one that you want to be shown",
        ),
        (
            config.acme.domains.is_some() && !config.acme.terms_agreed,
            "acme.domains",
            "read the terms of the authority, and set acme.terms_agreed = true if you agree",
        ),
        (
            config.acme.domains.is_some()
                && config.acme.challenge == AcmeChallenge::Http
                && config.tls.redirect_port.is_none(),
            "acme.challenge",
            "http-01 is asked for on a plain port; set tls.redirect_port, usually to 80",
        ),
        (
            config.tls.redirect_port.is_some() && !config.has_tls(),
            "tls.redirect_port",
            "there is no HTTPS to lead to; set tls.cert and tls.key, or acme.domains",
        ),
        (
            config.has_tls() && config.http.unix.is_some(),
            "http.unix",
            "TLS is for the network; leave out either this, or tls.cert and acme.domains",
        ),
        (
            config.internal.port.is_some() && config.internal.unix.is_some(),
            "internal.unix",
            "internal.port is set, too; keep one of them",
        ),
        (
            is_same_port(config, config.internal.port, config.internal.address),
            "internal.port",
            "clients are served on the same port; choose another",
        ),
        (
            is_same_port(config, config.tls.redirect_port, config.address),
            "tls.redirect_port",
            "HTTPS is on the same port; choose another, usually 80",
        ),
        (
            config.internal.unix.is_some() && config.internal.unix == config.http.unix,
            "internal.unix",
            "clients are served on the same socket; choose another, or leave it out",
        ),
        (
            (1..MEMORY_MIN).contains(&config.limits.memory.bytes()),
            "limits.memory",
            "no server runs with so little; write a size with a unit, such as 512MiB, or 0 for what there is",
        ),
        (
            is_given(config, "internal.address") && config.internal.port.is_none(),
            "internal.address",
            "without internal.port nothing listens there; set that, too",
        ),
    ];
    let wrong = checks.into_iter().filter(|(is_wrong, ..)| *is_wrong);
    wrong.map(|(_, key, message)| problem(config, key, message)).chain(local_domain(config)).collect()
}

/// An authority for everybody asks the public DNS for the names.
fn local_domain(config: &Config) -> Option<Problem> {
    let is_public = config.acme.directory.0.contains("letsencrypt.org/");
    let name = config.acme.domains.as_ref().filter(|_| is_public)?.local()?;
    let message = format!(
        "`{name}` is no name of the public DNS, and Let's Encrypt certifies none else; write one that leads to this server, \
         or set acme.directory and acme.ca_file to an authority of your own"
    );
    Some(problem(config, "acme.domains", &message))
}

/// Whether somebody else would have to listen on the port for clients.
fn is_same_port(config: &Config, port: Option<u16>, address: IpAddr) -> bool {
    let is_same_address =
        address == config.address || address.is_unspecified() || config.address.is_unspecified();
    config.http.unix.is_none() && port.is_some_and(|port| port != 0 && port == config.port) && is_same_address
}

/// Whether somebody chose a value for this option.
fn is_given(config: &Config, key: &str) -> bool {
    source(config, key).is_some_and(|source| *source != Source::Default)
}

fn problem(config: &Config, key: &'static str, message: &str) -> Problem {
    match source(config, key) {
        Some(place @ Source::File { .. }) => Problem::at(place.clone(), format!("{key}: {message}")),
        Some(place) if *place != Source::Default => Problem::at(place.clone(), message),
        _ => Problem::of(format!("{}: {message}", spec(key).key)),
    }
}

fn source<'a>(config: &'a Config, key: &str) -> Option<&'a Source> {
    config.settings.iter().find(|setting| setting.key == key).map(|setting| &setting.source)
}

impl Config {
    /// Whether only this machine can reach what the key opens. A proxy brings others to a listener for clients, wherever that is; the
    /// internal one is not for them.
    pub fn is_loopback(&self) -> bool {
        match (&self.internal.unix, self.internal.port) {
            (Some(_), _) => true,
            (None, Some(_)) => self.internal.address.is_loopback(),
            (None, None) => {
                (self.http.unix.is_some() || self.address.is_loopback())
                    && self.http.trusted_proxies.is_none()
            }
        }
    }

    /// Whether other machines can reach what is for clients.
    pub fn is_public(&self) -> bool {
        self.http.unix.is_none() && !self.address.is_loopback()
    }

    /// Whether other machines can reach the internal port, which speaks no TLS.
    pub fn is_internal_open(&self) -> bool {
        self.internal.port.is_some() && !self.internal.address.is_loopback()
    }

    /// Whether the public port speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.cert.is_some() || self.acme.domains.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{env, load};
    use super::*;

    fn loaded(variables: &[(&str, &str)]) -> Result<Config, String> {
        let environment = env::load(variables.iter().map(|(name, value)| (name.into(), value.into())));
        load(Vec::new(), None, environment, &[]).map_err(|rejected| {
            let problems: Vec<String> = rejected.problems.iter().map(ToString::to_string).collect();
            problems.join("\n")
        })
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let check = |variables: &[(&str, &str)], expected: &str| {
            let message = loaded(variables).unwrap_err();
            assert!(message.contains(expected), "{message}");
        };
        check(
            &[("CHANNELAPI_HTTP_PROXY_PROTOCOL", "true")],
            "CHANNELAPI_HTTP_PROXY_PROTOCOL: no proxy is trusted",
        );
        let both = [("CHANNELAPI_INTERNAL_PORT", "1"), ("CHANNELAPI_INTERNAL_UNIX", "/run/x.sock")];
        check(&both, "keep one of them");
        let (port, internal) = (("CHANNELAPI_PORT", "1"), ("CHANNELAPI_INTERNAL_PORT", "1"));
        check(&[port, internal], "CHANNELAPI_INTERNAL_PORT: clients are served on the same port");
        let addresses = [("CHANNELAPI_ADDRESS", "10.0.0.1"), ("CHANNELAPI_INTERNAL_ADDRESS", "10.0.0.2")];
        loaded(&[&[port, internal], &addresses[..]].concat()).unwrap();
        let sockets = [("CHANNELAPI_HTTP_UNIX", "x.sock"), ("CHANNELAPI_INTERNAL_UNIX", "x.sock")];
        check(&sockets, "clients are served on the same socket");
        let tls = [("CHANNELAPI_TLS_CERT", "a"), ("CHANNELAPI_TLS_KEY", "b")];
        let redirect = [port, ("CHANNELAPI_TLS_REDIRECT_PORT", "1")];
        check(&[&tls[..], &redirect].concat(), "HTTPS is on the same port");
        let agreed = ("CHANNELAPI_ACME_TERMS_AGREED", "true");
        for name in ["localhost", "a.example,push", "push.internal"] {
            let local = [("CHANNELAPI_ACME_DOMAINS", name), agreed];
            check(&local, "CHANNELAPI_ACME_DOMAINS: `");
            let own = ("CHANNELAPI_ACME_DIRECTORY", "https://ca.internal/dir");
            loaded(&[&local[..], &[own]].concat()).unwrap();
        }
        check(
            &[("CHANNELAPI_LIMITS_MEMORY", "10")],
            "CHANNELAPI_LIMITS_MEMORY: no server runs with so little",
        );
        check(&[("CHANNELAPI_INTERNAL_ADDRESS", "10.0.0.1")], "without internal.port nothing listens");
        loaded(&[
            ("CHANNELAPI_HTTP_PROXY_PROTOCOL", "true"),
            ("CHANNELAPI_HTTP_TRUSTED_PROXIES", "10.0.0.1"),
        ])
        .unwrap();
    }

    #[test]
    fn a_weak_key_is_measured_by_who_can_reach_the_api() {
        let check = |variables: &[(&str, &str)], is_loopback| {
            assert_eq!(loaded(variables).unwrap().is_loopback(), is_loopback, "{variables:?}");
        };
        check(&[], false);
        check(&[("CHANNELAPI_ADDRESS", "127.0.0.1")], true);
        check(&[("CHANNELAPI_HTTP_UNIX", "x.sock")], true);
        check(&[("CHANNELAPI_INTERNAL_PORT", "8889")], true);
        check(&[("CHANNELAPI_INTERNAL_UNIX", "x.sock")], true);
        let open = [("CHANNELAPI_INTERNAL_PORT", "8889"), ("CHANNELAPI_INTERNAL_ADDRESS", "10.0.0.1")];
        check(&open, false);
        let proxy = ("CHANNELAPI_HTTP_TRUSTED_PROXIES", "127.0.0.1, unix");
        check(&[("CHANNELAPI_ADDRESS", "127.0.0.1"), proxy], false);
        check(&[("CHANNELAPI_HTTP_UNIX", "x.sock"), proxy], false);
        check(&[("CHANNELAPI_INTERNAL_PORT", "8889"), proxy], true);
        check(&[("CHANNELAPI_INTERNAL_UNIX", "x.sock"), proxy], true);
        let is_public = |variables: &[(&str, &str)]| loaded(variables).unwrap().is_public();
        assert!(is_public(&[]) && is_public(&[("CHANNELAPI_INTERNAL_PORT", "8889")]));
        for variable in [("CHANNELAPI_ADDRESS", "127.0.0.1"), ("CHANNELAPI_HTTP_UNIX", "x.sock")] {
            assert!(!is_public(&[variable]));
        }
    }

    /// Once, nothing was said of it where the public listener was for this machine alone, or had TLS.
    #[test]
    fn an_internal_port_is_open_wherever_clients_are_served() {
        let is_open = |variables: &[(&str, &str)]| loaded(variables).unwrap().is_internal_open();
        let (port, everywhere) =
            (("CHANNELAPI_INTERNAL_PORT", "8889"), ("CHANNELAPI_INTERNAL_ADDRESS", "0.0.0.0"));
        let tls = [("CHANNELAPI_TLS_CERT", "a"), ("CHANNELAPI_TLS_KEY", "b")];
        for public in [&[][..], &[("CHANNELAPI_ADDRESS", "127.0.0.1")], &tls] {
            assert!(is_open(&[&[port, everywhere], public].concat()), "{public:?}");
            assert!(!is_open(&[&[port], public].concat()) && !is_open(public), "{public:?}");
        }
    }
}
