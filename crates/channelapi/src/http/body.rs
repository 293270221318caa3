//! What an answer carries.

use super::receipt::Receipt;
use bytes::Bytes;
use channelapi_core::limits::STREAM_PIECE_BYTES;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of an answer.
pub(crate) enum Body {
    /// Known as a whole. hyper gets it in pieces, because it copies what it gets: bytes that count as long as they are here count until the
    /// last of them.
    Whole(Bytes),
    /// The same, of which somebody must know whether it has arrived.
    Receipted(Bytes, Option<Box<Receipt>>),
    /// Made while it is sent. The connection is closed behind it.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = Infallible> + Send>>),
}

impl Body {
    /// Known as a whole.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(bytes.into())
    }

    /// The same, of which somebody must know whether it has arrived. A stream has its own ways.
    pub(crate) fn with_receipt(self, receipt: Receipt) -> Self {
        match self {
            Self::Whole(whole) | Self::Receipted(whole, _) => Self::Receipted(whole, Some(Box::new(receipt))),
            Self::Stream(_) => self,
        }
    }

    /// What the connection keeps that it goes out on.
    pub(crate) fn take_receipt(&mut self) -> Option<Box<Receipt>> {
        match self {
            Self::Receipted(_, receipt) => receipt.take(),
            Self::Whole(_) | Self::Stream(_) => None,
        }
    }

    /// All of it, if it is known.
    pub(crate) fn into_whole(self) -> Option<Bytes> {
        match self {
            Self::Whole(whole) | Self::Receipted(whole, _) => Some(whole),
            Self::Stream(_) => None,
        }
    }

    /// Whether the answer is made while it is sent.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(rest) | Self::Receipted(rest, _) if rest.is_empty() => Poll::Ready(None),
            Self::Whole(rest) | Self::Receipted(rest, _) => {
                let piece = rest.split_to(rest.len().min(STREAM_PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(rest) | Self::Receipted(rest, _) => rest.is_empty(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(rest) | Self::Receipted(rest, _) => SizeHint::with_exact(rest.len() as u64),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::sync::Arc;

    struct Shared(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    /// Once, hyper got all of it at once, and copied it.
    #[tokio::test]
    async fn a_whole_body_goes_in_pieces_and_is_kept_until_the_last() {
        assert!(Body::whole("").is_end_stream() && Body::default().is_end_stream());
        for length in [1, STREAM_PIECE_BYTES, 2 * STREAM_PIECE_BYTES + 1] {
            let kept = Arc::new(vec![b'x'; length]);
            let mut body = Body::whole(Bytes::from_owner(Shared(kept.clone())));
            let mut left = length;
            while !body.is_end_stream() {
                assert_eq!((body.size_hint().exact(), Arc::strong_count(&kept)), (Some(left as u64), 2));
                let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(piece.len(), left.min(STREAM_PIECE_BYTES));
                left -= piece.len();
            }
            assert!(left == 0 && body.frame().await.is_none());
            assert_eq!(Arc::strong_count(&kept), 1, "{length}");
        }
    }
}
