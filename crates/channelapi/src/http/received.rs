//! What a request carries.
//!
//! Invariant: a body that breaks the rules of HTTP/1 is counted, whether somebody reads it or not.

use super::{Discarded, Request, discard_body};
use crate::metrics::{HttpRefused, HttpTimeout};
use bytes::Bytes;
use channelapi_core::limits::API_BODY_BYTES_MAX;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::EXPECT;
use parking_lot::Mutex;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Received {
    /// What is still to come. None when it is gone, or was here from the beginning.
    incoming: Option<Incoming>,
    /// What was here from the beginning.
    whole: Bytes,
    /// Where it goes if nobody begins to read it.
    unread: Option<Unread>,
}

/// The place on a connection for a body that nobody has read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    /// The request, with a body that comes back here if nobody begins to read it.
    pub(crate) fn watch(&self, request: hyper::Request<Incoming>) -> Request {
        // A client that asks first sends no body to somebody who does not want it.
        let is_sent = !request.body().is_end_stream() && !request.headers().contains_key(EXPECT);
        let unread = is_sent.then(|| self.clone());
        Box::new(request.map(|incoming| Received { incoming: Some(incoming), whole: Bytes::new(), unread }))
    }

    /// Reads, and throws away, the body that came back. Hyper would give up its connection instead, and say nothing of a body
    /// that is malformed. It does so when more is to come than is thrown away, which is counted.
    pub(crate) async fn discard(&self) {
        let Some(incoming) = self.0.lock().take() else { return };
        let body = Received { incoming: Some(incoming), whole: Bytes::new(), unread: None };
        match discard_body(body, API_BODY_BYTES_MAX).await {
            Discarded::Over => {}
            Discarded::TooLarge => HttpRefused::TooLarge.count(),
            Discarded::TooSlow => HttpTimeout::Body.count(),
        }
    }

    /// Gives up the body that came back: its connection ends behind the answer, without waiting for it.
    pub(crate) fn give_up(&self) {
        *self.0.lock() = None;
    }
}

impl Received {
    /// A body that is here.
    pub(crate) fn whole(whole: Bytes) -> Self {
        Self { incoming: None, whole, unread: None }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.unread = None;
        let Some(incoming) = &mut self.incoming else {
            let whole = std::mem::take(&mut self.whole);
            return Poll::Ready(
                Some(whole).filter(|whole| !whole.is_empty()).map(|whole| Ok(Frame::data(whole))),
            );
        };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        if let Some(Err(error)) = &frame
            && is_malformed(error)
        {
            HttpRefused::Malformed.count();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().map_or(self.whole.is_empty(), HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let here = || SizeHint::with_exact(self.whole.len() as u64);
        self.incoming.as_ref().map_or_else(here, HttpBody::size_hint)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(unread) = &self.unread {
            *unread.0.lock() = self.incoming.take();
        }
    }
}

/// Whether what has arrived is no body, as opposed to one of which the rest never came.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause
        .is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}
