//! The command line: `--address A --port N --auth-key K`, as channelapi has it.

use anyhow::{Context as _, bail};

pub(crate) struct Options {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) auth_key: String,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self { address: "127.0.0.1".to_owned(), port: 0, auth_key: String::new() };
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--address" => options.address = value,
                "--port" => {
                    options.port = value.parse().with_context(|| format!("{value:?} is not a port"))?;
                }
                "--auth-key" => options.auth_key = value,
                _ => bail!("unknown option {name}; known are --address, --port and --auth-key"),
            }
        }
        if options.auth_key.is_empty() {
            bail!("--auth-key is missing");
        }
        Ok(options)
    }
}
