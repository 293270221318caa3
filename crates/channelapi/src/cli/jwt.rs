//! The verbs for JWTs: what is typed, and what is asked for with it.

use std::{io::Read as _, path::PathBuf, time::Duration};

use channelapi_core::limits::{JWT_LIFETIME_MAX, TOKEN_BYTES_MAX};
use clap::{Arg, ArgMatches, Command, builder::OsStringValueParser};

use super::{
    Exit,
    arguments::{config_arg, text, value, wrong},
    settings::configuration,
};
use crate::{
    config::{env::Environment, jwt::Issuer, value::Value},
    jwt::{Jwt, Verb, Wish},
};

/// `channelapi jwt …`.
pub(super) fn jwt_command() -> Command {
    let sign = Command::new("sign")
        .alias("gentoken")
        .about("Make a JWT with the secret of the configuration, or with a private key")
        .override_usage("channelapi jwt sign --channels CHANNELS [OPTIONS]")
        .args([
            value("channels", "CHANNELS", "Channels it opens, separated by commas").required(true),
            value("sub", "SUBJECT", "The user it is for"),
            value("jti", "ID", "Its own name, by which it can be revoked"),
            value("ttl", "TIME", "How long it is good [default: 1h]"),
            value("issuer", "ISSUER", "Which [[jwt]] signs it, if there are several"),
            value("key-file", "FILE", "Private key in PEM form, where the configuration has a public one"),
            value("kid", "NAME", "Name of that key"),
            value("algorithm", "NAME", "Such as PS256, where the key leaves a choice"),
            config_arg().help_heading(None::<&str>),
        ])
        .after_help(SIGN_EXAMPLES);
    let token = Arg::new("jwt").value_name("JWT").required(true).value_parser(OsStringValueParser::new());
    let verify = Command::new("verify")
        .alias("checktoken")
        .about("Say what a JWT opens, or why it is not taken")
        .override_usage("channelapi jwt verify [OPTIONS] JWT\n       channelapi jwt verify [OPTIONS] -")
        .args([token.help("The JWT, or - for standard input"), config_arg().help_heading(None::<&str>)])
        .after_help(VERIFY_EXAMPLES);
    Command::new("jwt")
        .about("Make and judge JWTs by the issuers of the configuration")
        .subcommand_required(true)
        .subcommands([sign, verify])
}

const SIGN_EXAMPLES: &str = "\
Examples:
  channelapi jwt sign --channels user:42 --sub 42 --ttl 10m
  channelapi jwt sign --channels a,b --issuer shop
  channelapi jwt sign --channels a --key-file private.pem --kid 2029-1

It is for trying things out. Backends sign with a library of their language.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  channelapi jwt verify eyJhbGciOiJIUzI1NiJ9.eyJjaGFubmVscyI6WyJhIl19.…
  channelapi jwt sign --channels a | channelapi jwt verify -

Keys behind a jwks_url are fetched. What clients are told is less: that it is not valid, not yet, or not any more.";

/// Understands `jwt …`.
pub(super) fn jwt(
    verb: &str,
    levels: &[&ArgMatches],
    environment: Environment,
    search: &[PathBuf],
) -> Result<Jwt, Exit> {
    let config = configuration(levels, environment, search)?;
    if config.jwt.is_empty() {
        return Err(wrong(
            "the configuration has no [[jwt]], so no JWT is good; `channelapi config doc` shows how to write one",
        ));
    }
    let verb = match verb {
        "sign" => {
            let entries = chosen(&config.jwt, text(levels, "issuer")?.as_deref())?;
            Verb::Sign(entries, wish(levels)?)
        }
        _ => Verb::Verify(token(levels)?),
    };
    Ok(Jwt { issuers: config.jwt, verb })
}

/// The entries of who signs: several with one name are one issuer.
fn chosen(issuers: &[Issuer], name: Option<&str>) -> Result<Vec<Issuer>, Exit> {
    let mut names: Vec<_> = issuers.iter().filter_map(|issuer| issuer.issuer.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    match name {
        // One without a name is the only one.
        None if names.len() <= 1 => Ok(issuers.to_vec()),
        None => Err(wrong(&format!("say with --issuer who signs it: {}", names.join(", ")))),
        Some(name) => {
            let entries = issuers.iter().filter(|issuer| issuer.issuer.as_deref() == Some(name));
            let entries: Vec<_> = entries.cloned().collect();
            if !entries.is_empty() {
                return Ok(entries);
            }
            let others = if names.is_empty() {
                "the only one has no name, so leave --issuer out".to_owned()
            } else {
                format!("there are: {}", names.join(", "))
            };
            Err(wrong(&format!("no [[jwt]] has the issuer `{name}`; {others}")))
        }
    }
}

/// What it is to say. What no server would take is a mistake.
fn wish(levels: &[&ArgMatches]) -> Result<Wish, Exit> {
    let channels = text(levels, "channels")?.unwrap_or_default();
    let channels = channels.split(',').map(str::trim).filter(|name| !name.is_empty());
    let channels: Vec<String> = channels.map(str::to_owned).collect();
    if channels.is_empty() {
        return Err(wrong("--channels: name one or more that it is to open; without any no server takes it"));
    }
    let ttl = text(levels, "ttl")?.map(|ttl| Duration::parse(&ttl)).transpose();
    let ttl = ttl.map_err(|why| wrong(&format!("--ttl: {why}")))?.unwrap_or(Duration::from_hours(1));
    if ttl.as_secs() == 0 {
        return Err(wrong("--ttl: a JWT ends after whole seconds; write 1s or more"));
    }
    if ttl > JWT_LIFETIME_MAX {
        let days = JWT_LIFETIME_MAX.as_secs() / (24 * 3600);
        return Err(wrong(&format!("--ttl: no server takes a JWT that is good for more than {days} days")));
    }
    Ok(Wish {
        channels,
        subject: text(levels, "sub")?,
        id: text(levels, "jti")?,
        ttl,
        key_file: text(levels, "key-file")?.map(PathBuf::from),
        kid: text(levels, "kid")?,
        algorithm: text(levels, "algorithm")?,
    })
}

fn token(levels: &[&ArgMatches]) -> Result<String, Exit> {
    let token = text(levels, "jwt")?.unwrap_or_default();
    if token != "-" {
        return Ok(token);
    }
    let mut token = String::new();
    // What is longer is refused for its length.
    let read = std::io::stdin().take(2 * TOKEN_BYTES_MAX as u64).read_to_string(&mut token);
    read.map_err(|error| Exit::unusable(format!("error: standard input: {error}\n")))?;
    Ok(token)
}
