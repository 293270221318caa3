//! The lists: what each of the `[[auth_keys]]`, `[[jwt]]` and `[[policy]]` can hold. They are found in the file alone, as no flag
//! or variable could say of which item it speaks.

use std::path::PathBuf;

use super::Spec;
use crate::config::{
    auth_keys::KeyName,
    jwt::{Algorithms, JwksUrl, Names},
    moment::Moment,
    pattern::{ChannelPatterns, NamePattern},
    policy::Replay,
    scope::Scopes,
    secret::{KeyHash, Secret},
    value::Durability,
};

lists! {
    [["auth_keys"]] AUTH_KEYS AUTH_KEY_OPTIONS "API keys" {
        /// Name of the key, for logs and figures.
        ///
        /// 1 to 64 letters, digits, dots, dashes and underscores. Every key needs one of its own.
        "name": KeyName, like "orders";

        /// Hash of the key, so that the file holds no secret.
        ///
        /// `channelapi key create` makes a new key and prints this line for it, `channelapi key hash` prints it for a key that
        /// exists.
        "hash": Option<KeyHash>, like "sha256:7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069";

        /// File that holds the key itself, instead of its hash.
        ///
        /// A line break at its end is not part of the key.
        "key_file": Option<PathBuf>, like "/run/secrets/orders_key";

        /// What the key may do.
        ///
        /// It must be there, with one or more of these. `publish`: publish. `read`: history, event streams, and what there is to know of
        /// channels and consumers. `tokens`: give out, replace and revoke the tokens that clients join with. `admin`: all of these, purging,
        /// setting and removing consumers, sending clients away, and revoking JWTs. docs/http-api.md lists what each route needs.
        "scopes": Scopes, like "publish";

        /// Channels that the key is for.
        ///
        /// Patterns as those of a policy. Left out, it is for every channel.
        "channels": Option<ChannelPatterns>, like "user-*";

        /// Time from which on the key lets nobody in any more.
        ///
        /// Left out, it never ends. Two weeks before, each start and each reload is a warning.
        "expires": Option<Moment>, like "2030-01-31T12:00:00Z";
    }

    [["jwt"]] JWT JWT_OPTIONS "JWT" {
        /// Who issues the JWTs: what they have as `iss`, to the letter.
        ///
        /// With a single `[[jwt]]` it may be left out; then `iss` means nothing. Several entries with one issuer are for the time in
        /// which it changes its keys: a JWT is good if one of them takes it.
        "issuer": Option<String>, like "https://login.example.com";

        /// Whom the JWTs are for: one of these must be their `aud`, or in it.
        ///
        /// Left out, they must have no `aud` at all: one that names somebody else, as an ID token names an application, opens
        /// nothing here.
        "audience": Option<Names>, like "push";

        /// Algorithms that the JWTs are signed with.
        ///
        /// Left out, it is the usual one of each key: `HS256` for a secret, `RS256` for RSA, the one that goes with a curve, and in a
        /// JWKS what each key says of itself. A key is never used with another algorithm, whatever a JWT says.
        "algorithms": Option<Algorithms>, like "RS256";

        /// Secret that the issuer signs with.
        ///
        /// 32 bytes or more that nobody can guess; those that stand in well-known documentation, or are the same few characters over and over, are refused. One of this and the next four must be
        /// there; prefer a file.
        "secret": Option<Secret>, like "…";

        /// File that holds such a secret.
        ///
        /// A line break at its end is not part of the secret.
        "secret_file": Option<PathBuf>, like "/run/secrets/jwt";

        /// File with the issuer's public key in PEM form.
        ///
        /// RSA of 2048 bits or more, P-256, P-384 or Ed25519.
        "public_key_file": Option<PathBuf>, like "/etc/channelapi/issuer.pem";

        /// File with the issuer's public keys as a JWKS.
        "jwks_file": Option<PathBuf>, like "/etc/channelapi/jwks.json";

        /// Address of the issuer's public keys, a JWKS.
        ///
        /// They are fetched at the start, every five minutes, and when a JWT names a key that is not among them, at most once a
        /// minute. If that fails, the keys from before are used for up to a day. Redirects are not followed.
        "jwks_url": Option<JwksUrl>, like "https://login.example.com/.well-known/jwks.json";

        /// File with the certificates to trust behind `jwks_url`, in PEM form.
        ///
        /// Left out, it is whom the system trusts.
        "ca_file": Option<PathBuf>, like "/etc/channelapi/ca.pem";

        /// Fetch keys over plain HTTP, too.
        ///
        /// Whoever can change what travels there can let in whom they like.
        "insecure_http": Option<bool>, like "false";

        /// Claim of the JWTs that names the channels which they open.
        ///
        /// Left out, it is `channels`. It is an array of up to 128 names.
        "channels_claim": Option<String>, like "channels";

        /// Channels that this issuer may open at most.
        ///
        /// Patterns as those of a policy. Left out, it may open every channel that its JWTs name.
        "grants": Option<ChannelPatterns>, like "user:*";

        /// Whether the JWTs may name channels by patterns, such as `user:42:*`.
        ///
        /// Left out or `false`, a name with a star in it opens nothing. With `true`, `*` stands for any run of characters, and `["*"]`
        /// opens all that `grants` does.
        "allow_patterns": Option<bool>, like "false";
    }

    [["policy"]] POLICY POLICY_OPTIONS "Policies" {
        /// Names of channels: `*` stands for any run of characters, everything else for itself.
        ///
        /// `user-*` matches `user-42` and `user-`, `*` matches every channel. Every policy needs a pattern of its own; one
        /// that can never come first, because another above matches all its channels, is an error.
        "match": NamePattern, like "user-*";

        /// How safely a publication is kept before its publisher is answered.
        ///
        /// As in `[store]`, and `memory`: without any disk, for as long as the server runs. Left out, it is as in `[store]`.
        "durability": Durability, like "fsync";

        /// What a client gets that joins without saying where it stands.
        ///
        /// `false`, or left out: only what is published from then on. A number: that many of the newest publications first.
        /// `true`: everything that is kept. Clients that say where they stand get what they missed, whatever is set here.
        "replay_on_join": Replay, like "false";
    }
}
