//! The verbs that make keys: what is typed, and what is asked for with it.

use std::time::SystemTime;

use clap::{Arg, ArgAction, ArgMatches, Command, builder::OsStringValueParser};

use super::{Exit, arguments::values};
use crate::{
    config::{
        auth_keys::KeyName, moment::Moment, options::list_spec, pattern::ChannelPatterns, scope::Scopes,
        value::Value,
    },
    key::Key,
};

/// What a key may do if nothing is said: what every backend does.
const SCOPES: &str = "publish";

/// `channelapi key …`.
pub(super) fn key_command() -> Command {
    let create = Command::new("create")
        .about("Make a key, and the lines for the configuration file that hold its hash")
        .override_usage("channelapi key create [OPTIONS] NAME")
        .args(key_args())
        .after_help(CREATE_EXAMPLES);
    let hash = Command::new("hash")
        .about("Print the same lines for a key that exists, read from standard input")
        .override_usage("channelapi key hash [OPTIONS] NAME < FILE")
        .args(key_args())
        .after_help(HASH_EXAMPLES);
    Command::new("key")
        .about("Make API keys that may do less than everything")
        .subcommand_required(true)
        .subcommands([create, hash])
}

const CREATE_EXAMPLES: &str = "\
Examples:
  channelapi key create shop --scopes publish,tokens --channels 'user-*' >> channelapi.toml
  channelapi key create report --scopes read --expires 2030-01-31
  channelapi key create ci --json | jq -r .key

The lines go to standard output, the key itself to standard error; it is shown once and kept nowhere.
A running server takes the file over on SIGHUP.";

const HASH_EXAMPLES: &str = "\
Examples:
  channelapi key hash shop --scopes publish < /run/secrets/shop_key >> channelapi.toml

A key on the command line could be read by every user of this machine, so it is not taken there.";

fn key_args() -> [Arg; 5] {
    let value = |name: &'static str, placeholder: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name(placeholder).help(help);
        arg.value_parser(OsStringValueParser::new())
    };
    let name = Arg::new("name").value_name("NAME").required(true).value_parser(OsStringValueParser::new());
    [
        name.help("What logs call the key"),
        value("scopes", "SCOPES", "What it may do: publish, read, tokens, admin [default: publish]")
            .overrides_with("scopes"),
        value("channels", "PATTERN", "Channels it is for; can be given several times [default: all]")
            .action(ArgAction::Append),
        value("expires", "TIME", "When it ends, such as 2030-01-31 [default: never]")
            .overrides_with("expires"),
        Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print it all as one JSON object"),
    ]
}

/// Understands `key …`.
pub(super) fn key(verb: &str, levels: &[&ArgMatches]) -> Result<Key, Exit> {
    let name: Option<KeyName> = read(levels, "name", "auth_keys.name")?;
    let scopes: Option<Scopes> = read(levels, "scopes", "auth_keys.scopes")?;
    let channels: Option<ChannelPatterns> = read(levels, "channels", "auth_keys.channels")?;
    let expires: Option<Moment> = read(levels, "expires", "auth_keys.expires")?;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
    judge_end(expires.as_ref(), u64::try_from(now).unwrap_or(u64::MAX))?;
    Ok(Key {
        is_new: verb == "create",
        name: name.expect("it is required"),
        scopes: scopes.unwrap_or_else(|| Scopes::parse(SCOPES).expect("a test parses it")),
        channels,
        expires,
        is_json: levels.iter().any(|level| matches!(level.try_get_one::<bool>("json"), Ok(Some(true)))),
    })
}

/// A key that has ended already was a mistake. Times are in milliseconds since 1970.
fn judge_end(expires: Option<&Moment>, now: u64) -> Result<(), Exit> {
    let Some(end) = expires.filter(|end| end.unix_millis() <= now) else { return Ok(()) };
    let over = end.show();
    Err(Exit::unusable(format!(
        "error: --expires: {over} is over, so the key would let nobody in; write a later time\n"
    )))
}

/// The value of an argument that is an option of the list, too.
fn read<T: Value>(levels: &[&ArgMatches], name: &str, key: &str) -> Result<Option<T>, Exit> {
    let wrong = |why: &str| Exit::unusable(format!("error: {name}: {why}\n"));
    let values: Option<Vec<&str>> = values(levels, name).into_iter().map(|value| value.to_str()).collect();
    let values = values.ok_or_else(|| wrong("the value is not UTF-8 text"))?;
    if values.is_empty() {
        return Ok(None);
    }
    if values.iter().any(|value| value.contains('\n')) {
        return Err(wrong("the value has a line break"));
    }
    list_spec(key).parse(&values.join("\n")).map(Some).map_err(|why| wrong(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_lies_ahead() {
        let end = Moment::parse("2030-01-31").unwrap();
        assert_eq!(judge_end(None, u64::MAX), Ok(()));
        assert_eq!(judge_end(Some(&end), end.unix_millis() - 1), Ok(()));
        let over = judge_end(Some(&end), end.unix_millis()).unwrap_err();
        let text =
            "error: --expires: 2030-01-31 is over, so the key would let nobody in; write a later time\n";
        assert_eq!((over.code, &*over.text), (2, text));
    }
}
