//! The verbs for JWTs: what is typed, and what is asked for with it.

use std::{io::Read as _, path::PathBuf, time::Duration};

use channelapi_core::limits::TOKEN_BYTES_MAX;
use clap::{Arg, ArgMatches, Command, builder::OsStringValueParser};

use super::{
    Exit,
    command::config_arg,
    settings::{configuration, values},
};
use crate::{
    config::{env::Environment, value::Value},
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

Keys behind a jwks_url are fetched. What clients are told is less: only that it is not valid.";

fn value(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(placeholder)
        .value_parser(OsStringValueParser::new())
        .overrides_with(name)
        .help(help)
}

/// Understands `jwt …`.
pub(super) fn jwt(
    verb: &str,
    levels: &[&ArgMatches],
    environment: Environment,
    search: &[PathBuf],
) -> Result<Jwt, Exit> {
    let config = configuration(levels, environment, search)?;
    let verb = match verb {
        "sign" => Verb::Sign(Wish {
            channels: text(levels, "channels")?
                .unwrap_or_default()
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            subject: text(levels, "sub")?,
            id: text(levels, "jti")?,
            ttl: match text(levels, "ttl")? {
                None => Duration::from_hours(1),
                Some(ttl) => {
                    Duration::parse(&ttl).map_err(|why| Exit::unusable(format!("error: --ttl: {why}\n")))?
                }
            },
            key_file: text(levels, "key-file")?.map(PathBuf::from),
            kid: text(levels, "kid")?,
            algorithm: text(levels, "algorithm")?,
        }),
        _ => Verb::Verify(token(levels)?),
    };
    Ok(Jwt { issuers: config.jwt, issuer: text(levels, "issuer")?, verb })
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

fn text(levels: &[&ArgMatches], name: &str) -> Result<Option<String>, Exit> {
    let Some(value) = values(levels, name).first().copied() else { return Ok(None) };
    let text = value
        .to_str()
        .ok_or_else(|| Exit::unusable(format!("error: {name}: the value is not UTF-8 text\n")))?;
    Ok(Some(text.to_owned()))
}
