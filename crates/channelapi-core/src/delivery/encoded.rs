//! The bytes of publications: encoded once in each form that somebody wants, and shared by all who want it.

use crate::broker::Gap;
use crate::limits::{CHECKPOINT_INTERVAL, JOINED_BYTES_MAX};
use crate::model::{ChannelName, Checkpoint, Cursor, Kept, Position, Publication};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// How a connection wants its publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The event and its data.
    Plain,
    /// With where and when it was published.
    Meta,
    /// Plain, and every batch ends with the cursor to resume from.
    Resumable,
    /// With where and when, and every batch ends with the cursor.
    ResumableMeta,
    /// As [`Form::Resumable`], for who has left a channel.
    ResumableLeft,
    /// As [`Form::ResumableMeta`], for who has left a channel.
    ResumableMetaLeft,
    /// As a server-sent event.
    Stream,
    /// As a server-sent event, with where and when.
    StreamMeta,
}

impl Form {
    pub(super) const COUNT: usize = 8;

    /// The form without checkpoints.
    pub(super) fn base(self) -> Self {
        match self {
            Self::Resumable | Self::ResumableLeft => Self::Plain,
            Self::ResumableMeta | Self::ResumableMetaLeft => Self::Meta,
            other => other,
        }
    }

    /// The form for a connection that leaves a channel: its checkpoints say so from now on.
    #[must_use]
    pub fn leaving(self) -> Self {
        match self {
            Self::Resumable => Self::ResumableLeft,
            Self::ResumableMeta => Self::ResumableMetaLeft,
            other => other,
        }
    }

    /// Whether batches end with a cursor.
    pub fn has_checkpoints(self) -> bool {
        self.base() != self
    }
}

/// Turns things into the bytes that subscribers share.
pub trait FrameEncoder: Send + Sync + 'static {
    /// Appends the frame of a publication, without a checkpoint.
    fn publication(&self, publication: &Publication, form: Form, out: &mut Vec<u8>);

    /// Appends the frame that tells a client where it stands.
    fn checkpoint(&self, checkpoint: &Checkpoint, out: &mut Vec<u8>);

    /// Appends the frame that tells a client that something is missing.
    fn gap(&self, channel: &ChannelName, gap: Gap, form: Form, out: &mut Vec<u8>);
}

/// A publication and the frames that were made of it so far.
pub(super) struct Encoded {
    pub(super) publication: Publication,
    /// Where a client stands that has received everything up to this.
    stands: Option<Cursor>,
    encoder: Arc<dyn FrameEncoder>,
    frames: [OnceLock<Bytes>; Form::COUNT],
}

impl Encoded {
    pub(super) fn new(
        publication: Publication,
        stands: Option<Cursor>,
        encoder: Arc<dyn FrameEncoder>,
    ) -> Self {
        Self { publication, stands, encoder, frames: Default::default() }
    }

    /// Its frame in a form, with its checkpoint if the form has them.
    pub(super) fn frame(&self, form: Form) -> &Bytes {
        self.frames[form as usize].get_or_init(|| {
            let mut out = Vec::with_capacity(self.publication.data.len() + 128);
            let mut checkpoints = Checkpoints::new(form);
            self.encoder.publication(&self.publication, form.base(), &mut out);
            checkpoints.follow(&self.publication, self.stands, &*self.encoder, &mut out);
            checkpoints.finish(&*self.encoder, &mut out);
            out.into()
        })
    }

    /// About how much it costs while it waits.
    pub(super) fn cost(&self) -> usize {
        self.publication.data.len() + 128
    }
}

/// Publications of one channel that leave together.
pub(super) struct Run {
    publications: Vec<Arc<Encoded>>,
    bytes: usize,
    joined: [OnceLock<Bytes>; Form::COUNT],
}

impl Run {
    pub(super) fn new(first: Arc<Encoded>) -> Self {
        Self { bytes: first.cost(), publications: vec![first], joined: Default::default() }
    }

    /// Whether another publication may leave with these.
    pub(super) fn fits(&self, next: &Encoded) -> bool {
        next.publication.channel == *self.channel() && self.bytes + next.cost() <= JOINED_BYTES_MAX
    }

    pub(super) fn push(&mut self, next: Arc<Encoded>) {
        self.bytes += next.cost();
        self.publications.push(next);
    }

    pub(super) fn channel(&self) -> &ChannelName {
        &self.publications[0].publication.channel
    }

    /// What was added up by [`Encoded::cost`].
    pub(super) fn cost(&self) -> usize {
        self.bytes
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.publications.len()
    }

    /// How many of them are kept nowhere.
    pub(super) fn volatile(&self) -> usize {
        self.publications.iter().filter(|one| one.publication.kept.is_none()).count()
    }

    /// The places of those that are kept.
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        self.publications.iter().filter_map(|one| one.publication.kept).map(|kept| kept.position)
    }

    /// The lowest turn among them.
    pub(super) fn first_turn(&self) -> Option<u64> {
        self.publications.iter().find_map(|one| one.publication.turn())
    }

    /// Where the last of them is kept.
    pub(super) fn last_kept(&self) -> Option<Kept> {
        self.publications.iter().rev().find_map(|one| one.publication.kept)
    }

    /// Those of a turn of at least `live_from`, and those without one, in a form, if there are any.
    pub(super) fn frames_from(&self, live_from: u64, form: Form) -> Option<Bytes> {
        let mut run = Self { publications: Vec::new(), bytes: 0, joined: Default::default() };
        let takes = |one: &&Arc<Encoded>| one.publication.turn().is_none_or(|turn| turn >= live_from);
        run.publications = self.publications.iter().filter(takes).cloned().collect();
        if run.publications.is_empty() { None } else { Some(run.frames(form).clone()) }
    }

    /// All of them in a form, with a checkpoint at the end if the form has them. A single one, the usual case, is not copied.
    pub(super) fn frames(&self, form: Form) -> &Bytes {
        if let [only] = &self.publications[..] {
            return only.frame(form);
        }
        let publications = &self.publications;
        self.joined[form as usize].get_or_init(|| {
            let encoder = &*publications[0].encoder;
            let mut joined = Vec::with_capacity(JOINED_BYTES_MAX);
            let mut checkpoints = Checkpoints::new(form);
            for one in publications {
                joined.extend_from_slice(one.frame(form.base()));
                checkpoints.follow(&one.publication, one.stands, encoder, &mut joined);
            }
            checkpoints.finish(encoder, &mut joined);
            joined.into()
        })
    }
}

/// Puts checkpoints behind publications: one at the end, one in between when there are many, and one behind each whose data is text,
/// because stock clients take the text that an event ends with for the place where they stand. (An event without data ends with its
/// name.)
pub(super) struct Checkpoints {
    form: Form,
    pending: Option<Cursor>,
    /// Publications since the last one.
    count: usize,
    last: Option<Cursor>,
}

impl Checkpoints {
    pub(super) fn new(form: Form) -> Self {
        Self { form, pending: None, count: 0, last: None }
    }

    /// A publication was written, behind which a client stands at `stands`.
    pub(super) fn follow(
        &mut self,
        publication: &Publication,
        stands: Option<Cursor>,
        encoder: &dyn FrameEncoder,
        out: &mut Vec<u8>,
    ) {
        if publication.kept.is_some() {
            self.pending = stands;
        }
        self.count += 1;
        let data = &publication.data;
        let ends_with_data = self.form.has_checkpoints() && self.form.base() == Form::Plain;
        let is_text = ends_with_data && (data.starts_with(b"\"") || data == "null");
        if is_text {
            self.pending = stands;
        }
        if is_text || self.count == CHECKPOINT_INTERVAL {
            self.finish(encoder, out);
        }
    }

    /// Nothing more follows.
    pub(super) fn finish(&mut self, encoder: &dyn FrameEncoder, out: &mut Vec<u8>) {
        self.count = 0;
        if let Some(cursor) = self.pending.take()
            && self.form.has_checkpoints()
        {
            let has_left = matches!(self.form, Form::ResumableLeft | Form::ResumableMetaLeft);
            encoder.checkpoint(&Checkpoint { cursor, has_left }, out);
            self.last = Some(cursor);
        }
    }

    /// Nothing more follows, and the client stands at `cursor`.
    pub(super) fn finish_at(&mut self, cursor: Cursor, encoder: &dyn FrameEncoder, out: &mut Vec<u8>) {
        if self.count > 0 || self.last != Some(cursor) {
            self.pending = Some(cursor);
            self.finish(encoder, out);
        }
    }
}
