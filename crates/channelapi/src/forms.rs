//! What a publication looks like to each kind of subscriber: Socket.IO clients and event streams.

use crate::api::sse;
use crate::gateway::frames;
use channelapi_core::broker::Gap;
use channelapi_core::delivery::{Form, FrameEncoder};
use channelapi_core::model::{ChannelName, Checkpoint, Publication};

/// Encodes for everybody.
pub(crate) struct Forms;

impl FrameEncoder for Forms {
    fn publication(&self, publication: &Publication, form: Form, out: &mut Vec<u8>) {
        match form {
            Form::Plain | Form::Resumable | Form::ResumableLeft => {
                frames::publication(publication, false, out);
            }
            Form::Meta | Form::ResumableMeta | Form::ResumableMetaLeft => {
                frames::publication(publication, true, out);
            }
            Form::Stream => sse::publication(publication, false, out),
            Form::StreamMeta => sse::publication(publication, true, out),
        }
    }

    fn checkpoint(&self, checkpoint: &Checkpoint, out: &mut Vec<u8>) {
        frames::checkpoint(checkpoint, out);
    }

    fn gap(&self, channel: &ChannelName, gap: Gap, form: Form, out: &mut Vec<u8>) {
        match form {
            Form::Stream | Form::StreamMeta => sse::gap(channel, gap, out),
            Form::Plain
            | Form::Meta
            | Form::Resumable
            | Form::ResumableMeta
            | Form::ResumableLeft
            | Form::ResumableMetaLeft => frames::gap(channel, gap, out),
        }
    }
}
