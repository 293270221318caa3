//! The verbs that make keys for the configuration file, and hashes of keys that exist.

use std::io::{self, IsTerminal, Read};

use anyhow::{Context, anyhow, bail};
use channelapi_core::limits::AUTH_KEY_BYTES_MAX;
use serde_json::json;

use crate::config::{
    auth_keys::KeyName,
    keys::{new_key, weakness_of},
    moment::Moment,
    options::AUTH_KEYS,
    pattern::ChannelPatterns,
    scope::Scopes,
    secret::Secret,
    value::{Shape, Value},
};
use crate::output::{print, tell, try_tell};

/// A key to be described for the file.
#[derive(Debug)]
pub struct Key {
    /// Whether it is made now; else it is on standard input.
    pub is_new: bool,
    /// What logs call it.
    pub name: KeyName,
    /// What it may do.
    pub scopes: Scopes,
    /// Its channels; `None` is all.
    pub channels: Option<ChannelPatterns>,
    /// When it ends.
    pub expires: Option<Moment>,
    /// Whether it is printed for programs.
    pub is_json: bool,
}

/// Makes or reads the key, and prints what the file needs. A new key goes to standard error, so that the rest can be written to
/// the file as it is. It goes there first: a file must not have the hash of a key that nobody has seen.
pub fn run(request: &Key) -> anyhow::Result<()> {
    let key = if request.is_new { new_key()? } else { read_key()? };
    if request.is_json {
        print(&json_of(request, &key).to_string());
        return Ok(());
    }
    if request.is_new {
        let name = request.name.as_str();
        let text = format!("the key `{name}`, which is kept nowhere and shown only now:\n{}", key.expose());
        try_tell(&text).map_err(|error| anyhow!("the key cannot be shown, so there is none: {error}"))?;
    }
    // The file may end within a line: the empty line before keeps what is appended out of it.
    print(&format!("\n{}", lines(request, &key)));
    Ok(())
}

/// The key on standard input, without the line break at its end.
fn read_key() -> anyhow::Result<Secret> {
    let mut input = io::stdin();
    if input.is_terminal() {
        tell("type the key, then Enter and Ctrl-D:");
    }
    let mut text = String::new();
    input
        .by_ref()
        .take(2 * AUTH_KEY_BYTES_MAX as u64)
        .read_to_string(&mut text)
        .context("cannot read the key")?;
    let key = Secret::new(text.trim_end_matches(['\n', '\r']));
    match weakness_of(&key) {
        Err(why) => {
            bail!("the key {why}; write it to standard input, such as `channelapi key hash NAME < FILE`")
        }
        Ok(Some(why)) => {
            tell(&format!("warning: the key {why}; a server that strangers can reach should not have it"));
        }
        Ok(None) => {}
    }
    Ok(key)
}

/// The key as the file has it.
fn lines(request: &Key, key: &Secret) -> String {
    let list = |shape: Shape, text: String| shape.toml(&text);
    let mut lines = vec![
        format!("[[{AUTH_KEYS}]]"),
        format!("name = {}", Shape::Text.toml(request.name.as_str())),
        format!("hash = {}", Shape::Text.toml(&key.hash().written())),
        format!("scopes = {}", list(Shape::List, request.scopes.show())),
    ];
    if let Some(channels) = &request.channels {
        let text = channels.iter().collect::<Vec<_>>().join("\n");
        lines.push(format!("channels = {}", list(Shape::Lines, text)));
    }
    if let Some(expires) = &request.expires {
        lines.push(format!("expires = {}", expires.show()));
    }
    lines.join("\n")
}

fn json_of(request: &Key, key: &Secret) -> serde_json::Value {
    json!({
        "name": request.name.as_str(),
        "key": request.is_new.then(|| key.expose()),
        "hash": key.hash().written(),
        "scopes": request.scopes.show().split(", ").collect::<Vec<_>>(),
        "channels": request.channels.as_ref().map(|channels| channels.iter().collect::<Vec<_>>()),
        "expires": request.expires.as_ref().map(Value::show),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(channels: Option<&str>, expires: Option<&str>) -> Key {
        Key {
            is_new: true,
            name: KeyName::parse("shop").unwrap(),
            scopes: Scopes::parse("tokens,publish").unwrap(),
            channels: channels.map(|text| ChannelPatterns::parse(text).unwrap()),
            expires: expires.map(|text| Moment::parse(text).unwrap()),
            is_json: false,
        }
    }

    #[test]
    fn what_is_printed_is_what_the_file_wants() {
        let key = Secret::new("Hello World!");
        let hash = "sha256:7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069";
        let least =
            format!("[[auth_keys]]\nname = \"shop\"\nhash = \"{hash}\"\nscopes = [\"publish\", \"tokens\"]");
        assert_eq!(lines(&request(None, None), &key), least);
        let most = request(Some("user-*\na,\"b"), Some("2030-01-31"));
        let more = "\nchannels = [\"user-*\", 'a,\"b']\nexpires = 2030-01-31";
        assert_eq!(lines(&most, &key), format!("{least}{more}"));
        let json = json_of(&most, &key);
        assert_eq!(json["channels"], json!(["user-*", "a,\"b"]));
        assert_eq!((&json["key"], &json["hash"]), (&json!("Hello World!"), &json!(hash)));
    }
}
