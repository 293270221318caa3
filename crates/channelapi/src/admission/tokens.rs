//! Tokens that are not good: how many an address may present.
//!
//! The same one again is no other guess. A client that nobody has told to give up comes back with it for as long as it runs, and after a token
//! was rotated there may be many of them at one address: they would keep those out that have the new one.

use super::{AddressNumber, Admission};
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;

impl Admission {
    /// A client presented something that is not good.
    pub(crate) fn failed_token(&self, number: AddressNumber, presented: &(impl Hash + ?Sized)) {
        let Some(index) = number.index() else { return };
        let (rate, now) = (self.limits().failed_tokens, self.clock.monotonic_millis());
        let presented = self.presented.hash_one(presented);
        self.addresses.lock().held(index).fails(presented, rate, now);
    }

    /// A stranger without a session presented something that is not good.
    pub(crate) fn failed_token_of(&self, address: Option<IpAddr>, presented: &(impl Hash + ?Sized)) {
        let presented = self.presented.hash_one(presented);
        self.counts(address, |entry, limits, now| entry.fails(presented, limits.failed_tokens, now));
    }

    /// Whether the address of a session has presented too many tokens that are not good.
    pub(crate) fn is_out_of_tokens(&self, number: AddressNumber) -> bool {
        let Some(index) = number.index() else { return false };
        let (rate, now) = (self.limits().failed_tokens, self.clock.monotonic_millis());
        self.addresses.lock().held(index).failed_tokens.is_spent(rate, now)
    }

    /// Whether an address may present a token.
    pub(crate) fn may_present_token(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return true };
        let (rate, now) = (self.limits().failed_tokens, self.clock.monotonic_millis());
        self.addresses.lock().known(address).is_none_or(|entry| !entry.failed_tokens.is_spent(rate, now))
    }
}
