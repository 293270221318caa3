//! What a listener serves.

use crate::http::{Answering, Head, Peer, Request, Response};
use crate::stream::Stream;
use std::future::Future;
use std::sync::Arc;

/// A socket that leaves HTTP.
pub(crate) struct Leaving {
    pub(crate) stream: Stream,
    /// The answer in HTTP, which is still to be written.
    pub(crate) answer: Vec<u8>,
    /// What the client sent behind its request.
    pub(crate) sent: Vec<u8>,
}

/// When a request is answered, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once, with an answer that is known as a whole.
    Brief,
    /// When there is something to answer, with all of it. Whoever goes away meanwhile has given the request up.
    Held,
    /// With a stream.
    Endless,
}

/// Answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// A request of a kind that is made all the time, about which everything is good.
    type Call: Send;

    /// What a socket is for that leaves HTTP.
    type Upgrade: Send;

    /// Answers any request.
    fn serve(self: Arc<Self>, request: Request, peer: Peer) -> impl Future<Output = Response> + Send;

    /// When requests to a path are answered.
    fn pace(&self, path: &str) -> Pace;

    /// Looks whether a request is of a kind that is made all the time. Nothing has been done if it is not: then it is for
    /// [`Service::serve`], which also says what is wrong with it.
    fn recognize(&self, head: &Head<'_>, body: &[u8]) -> Option<Self::Call>;

    /// Answers a request that was recognized.
    fn call(&self, call: Self::Call) -> Answering<'_>;

    /// Answers a request to leave HTTP. `None` if it is for [`Service::serve`]; then nothing has been done. Behind a 101, the socket
    /// is for whatever comes with it.
    fn upgrade(&self, head: &Head<'_>, peer: Peer) -> Option<(Response, Option<Self::Upgrade>)>;

    /// Has the socket of a request that leaves HTTP.
    fn take_over(upgrade: Self::Upgrade, leaving: Leaving) -> impl Future<Output = ()> + Send;
}
