//! One order: an account with the authority, a proof for each name, and a certificate for all of them.

use super::super::proofs::Proofs;
use super::kept::Kept;
use super::{AcmeSettings, Challenge};
use anyhow::{Context as _, bail};
use channelapi_core::limits::ACME_POLL_TIMEOUT;
use instant_acme::{
    Account, AccountBuilder, AuthorizationStatus, ChallengeType, Identifier, KeyAuthorization, NewAccount,
    NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

/// How often something is asked for in all, if the authority refuses it for its nonce.
const NONCE_TRIES: usize = 4;

/// Gets a certificate, and returns it with its key as PEM. An account that the authority does not know any more is replaced.
pub(super) async fn order(settings: &AcmeSettings, kept: &Kept, proofs: &Proofs) -> anyhow::Result<String> {
    let account = account(settings, kept).await?;
    let ordered = with_other_nonces(|| order_as(&account, settings, proofs)).await;
    match ordered {
        Err(error) if is_problem(&error, "accountDoesNotExist") => {
            warn!("the authority does not know the account that is kept; making another");
            let account = new_account(settings, kept).await?;
            with_other_nonces(|| order_as(&account, settings, proofs)).await
        }
        ordered => ordered,
    }
}

/// Asks once more if the authority refused a nonce, as it may at any time, and as RFC 8555, section 6.5, wants. Each request was
/// already repeated twice by then, so this is seldom; but the pause behind an order that failed is a minute without a certificate.
async fn with_other_nonces<T, F: Future<Output = anyhow::Result<T>>>(
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<T> {
    for _ in 1..NONCE_TRIES {
        match ask().await {
            Err(error) if is_problem(&error, "badNonce") => {}
            answer => return answer,
        }
    }
    ask().await
}

/// Whether the authority refused something with this error of ACME.
fn is_problem(error: &anyhow::Error, name: &str) -> bool {
    match error.downcast_ref::<instant_acme::Error>() {
        Some(instant_acme::Error::Api(problem)) => {
            let kind =
                problem.r#type.as_deref().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:"));
            kind == Some(name)
        }
        _ => false,
    }
}

/// The account that is kept, or else a new one.
pub(super) async fn account(settings: &AcmeSettings, kept: &Kept) -> anyhow::Result<Account> {
    let Some(credentials) = kept.account(&settings.directory) else {
        return new_account(settings, kept).await;
    };
    let account = builder(settings)?
        .from_credentials(credentials)
        .await
        .context("cannot use the account that is kept")?;
    if kept.has_other_email(&settings.directory, settings.email.as_deref()) {
        // A certificate is worth more than a letter about it.
        if let Err(error) = tell(&account, settings, kept).await {
            let error = format!("{error:#}");
            warn!(error, "the authority does not know acme.email yet");
        }
    }
    Ok(account)
}

/// A new account, which is kept in place of any other. Asking for one means that the operator agreed to the authority's terms.
async fn new_account(settings: &AcmeSettings, kept: &Kept) -> anyhow::Result<Account> {
    let contact = contact(settings);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let create = || async { Ok(builder(settings)?.create(&new, settings.directory.clone(), None).await?) };
    let (account, credentials) = with_other_nonces(create)
        .await
        .with_context(|| format!("cannot make an account at {}", settings.directory))?;
    kept.keep_account(&settings.directory, settings.email.as_deref(), credentials)
        .context("cannot keep the account")?;
    Ok(account)
}

/// Where the authority may write to.
fn contact(settings: &AcmeSettings) -> Option<String> {
    settings.email.as_deref().map(|email| format!("mailto:{email}"))
}

/// What talks to the authority, and knows it by what was configured.
fn builder(settings: &AcmeSettings) -> anyhow::Result<AccountBuilder> {
    match &settings.ca_file {
        Some(path) => builder_trusting(path),
        None => Account::builder().context("cannot find out which authorities this machine trusts"),
    }
}

/// The same for an authority that is recognised by what is in this file.
pub(super) fn builder_trusting(path: &Path) -> anyhow::Result<AccountBuilder> {
    Account::builder_with_root(path).with_context(|| format!("acme.ca_file: cannot use {}", path.display()))
}

/// Tells the authority where it may write to from now on.
async fn tell(account: &Account, settings: &AcmeSettings, kept: &Kept) -> anyhow::Result<()> {
    let contact = contact(settings);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    with_other_nonces(|| async { Ok(account.update_contacts(&contact).await?) }).await?;
    let Some(credentials) = kept.account(&settings.directory) else { return Ok(()) };
    kept.keep_account(&settings.directory, settings.email.as_deref(), credentials)
}

/// Gets a certificate with this account.
async fn order_as(account: &Account, settings: &AcmeSettings, proofs: &Proofs) -> anyhow::Result<String> {
    let names: Vec<Identifier> = settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await.context("the authority took no order")?;
    let kind = match settings.challenge {
        Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
        Challenge::Http => ChallengeType::Http01,
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            status => bail!("the authority will not have a name proven: {status:?}"),
        }
        let mut challenge = authorization.challenge(kind.clone()).with_context(|| {
            format!("the authority does not offer {kind:?}; choose another acme.challenge")
        })?;
        let answer = challenge.key_authorization();
        match settings.challenge {
            Challenge::TlsAlpn => {
                let name = challenge.identifier().to_string();
                proofs.add_certificate(&name, Arc::new(proof(&name, &answer)?));
            }
            Challenge::Http => proofs.add_text(&challenge.token, answer.as_str()),
        }
        challenge.set_ready().await?;
    }
    let patience = RetryPolicy::new().timeout(ACME_POLL_TIMEOUT);
    let status = order.poll_ready(&patience).await.context("a name could not be proven")?;
    if status != OrderStatus::Ready {
        let reasons = reasons(&mut order).await;
        bail!("the authority could not see that the names are ours: {reasons}");
    }
    let key = KeyPair::generate()?;
    let mut request = CertificateParams::new(settings.domains.clone())?;
    request.distinguished_name = DistinguishedName::new();
    order.finalize_csr(request.serialize_request(&key)?.der()).await.context("the order was not finished")?;
    let chain = order.poll_certificate(&patience).await.context("the certificate was not issued")?;
    Ok(key.serialize_pem() + &chain)
}

/// What the authority says about each name that it did not find.
async fn reasons(order: &mut instant_acme::Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // What is known of it is from before the proof.
        _ = authorization.refresh().await;
        let errors = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        let errors = errors.filter_map(|error| error.detail.clone());
        reasons.extend(errors.map(|error| format!("{}: {error}", authorization.identifier())));
    }
    if reasons.is_empty() { "it does not say why".to_owned() } else { reasons.join("; ") }
}

/// The certificate that tls-alpn-01 asks for: signed by itself, with the answer inside.
fn proof(name: &str, answer: &KeyAuthorization) -> anyhow::Result<CertifiedKey> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(answer.digest().as_ref())];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    // Not `from_der`: it looks into the certificate, and knows nothing of the critical extension that is the proof.
    let key = default_provider().key_provider.load_private_key(key)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use instant_acme::Problem;
    use std::cell::Cell;

    fn refused(kind: Option<&str>) -> anyhow::Error {
        let (kind, status) = (kind.map(str::to_owned), Some(400));
        let problem = Problem { r#type: kind, detail: None, status, subproblems: Vec::new() };
        let refused: Result<(), _> = Err(instant_acme::Error::Api(problem));
        refused.context("the authority took no order").unwrap_err()
    }

    #[test]
    fn an_account_that_is_not_known_is_told_from_all_other_problems() {
        let check = |error: anyhow::Error, expected| {
            assert_eq!(is_problem(&error, "accountDoesNotExist"), expected, "{error:#}");
        };
        check(refused(Some("urn:ietf:params:acme:error:accountDoesNotExist")), true);
        check(refused(Some("urn:ietf:params:acme:error:unauthorized")), false);
        check(refused(None), false);
        check(anyhow::anyhow!("accountDoesNotExist"), false);
    }

    /// An authority that is strict about nonces cost whoever had no certificate yet a minute.
    #[tokio::test]
    async fn what_is_refused_for_its_nonce_is_asked_for_again_a_few_times_and_nothing_else_is() {
        let check = async |kind, refusals, is_answered, expected_asked| {
            let asked = Cell::new(0);
            let answer = with_other_nonces(|| async {
                asked.set(asked.get() + 1);
                if asked.get() <= refusals { Err(refused(Some(kind))) } else { Ok(()) }
            })
            .await;
            assert_eq!((answer.is_ok(), asked.get()), (is_answered, expected_asked), "{kind} {refusals}");
        };
        check("urn:ietf:params:acme:error:badNonce", 0, true, 1).await;
        check("urn:ietf:params:acme:error:badNonce", 3, true, 4).await;
        check("urn:ietf:params:acme:error:badNonce", usize::MAX, false, 4).await;
        check("urn:ietf:params:acme:error:rateLimited", usize::MAX, false, 1).await;
    }
}
