//! What an authority may ask for to see that a name is ours, while it may ask.

use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Proofs of the order under way: as many as it has names.
#[derive(Debug, Default)]
pub(crate) struct Proofs(Mutex<Both>);

#[derive(Debug, Default)]
struct Both {
    /// Certificates for tls-alpn-01, by name.
    certificates: HashMap<String, Arc<CertifiedKey>>,
    /// Texts for http-01, by token.
    texts: HashMap<String, String>,
}

impl Proofs {
    pub(super) fn add_certificate(&self, name: &str, certificate: Arc<CertifiedKey>) {
        self.0.lock().certificates.insert(name.to_owned(), certificate);
    }

    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.0.lock().certificates.get(name).cloned()
    }

    pub(super) fn add_text(&self, token: &str, text: &str) {
        self.0.lock().texts.insert(token.to_owned(), text.to_owned());
    }

    /// The text for a token.
    pub(crate) fn text(&self, token: &str) -> Option<String> {
        self.0.lock().texts.get(token).cloned()
    }

    /// The order is over.
    pub(super) fn clear(&self) {
        *self.0.lock() = Both::default();
    }
}
