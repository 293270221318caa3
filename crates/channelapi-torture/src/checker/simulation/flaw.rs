//! What can be wrong with a simulated server.

/// What a simulated server does wrong, now and then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::checker) enum Flaw {
    /// The last message before a kill is gone after it, as if it had not been flushed.
    ForgetsTail,
    /// The last two messages before a kill lie the other way round after it.
    SwapsTail,
    AcceptsWithoutStoring,
    DropsSome,
    Reorders,
    Phantom,
    DeliversRefused,
    /// Different clients are told different offsets.
    TwoContents,
    DeliversTwice,
    StoresKeyTwice,
    /// Not recovered because of a trim that never was.
    FalselyIncomplete,
    /// Not recovered because it has no cursor, which it cannot have yet.
    ForgetsStart,
    /// A new pid, and no word why.
    SilentlyNotRecovered,
    /// A tail that was lost and filled again passes for the old one (ABA).
    TrustsReplacedHistory,
    HidesNewEpoch,
    HidesTrim,
    SkipsOnResume,
    RepeatsOnResume,
    ForeignChannel,
    /// Clients that have joined without a position get nothing.
    DeafSeed,
    /// What was refused is stored under its key, and nobody gets to know before it is tried again.
    StoresRefused,
    /// Only the first message of a batch is stored, and the connection breaks.
    TearsBatch,
    /// Another message comes between those of a batch.
    MixesBatch,
    /// A message is shown to those who come after its time is over.
    ShowsOver,
    /// A message that should have lived for long is missing.
    ForgetsLongLived,
    /// What was purged is there again after a kill.
    PurgeComesBack,
    /// Whoever returns from before a purge is told that nothing is missing.
    SilentPurge,
    /// An event stream leaves out one of the messages that were published while its client was away.
    SkipsInStream,
    /// What a client has confirmed is gone after a kill.
    ForgetsAck,
    /// A consumer stands behind everything that was confirmed.
    AckGoesAhead,
    /// What was confirmed after the directory was copied is still confirmed when the copy has taken its place.
    AckOutlivesRestore,
    /// Whoever asks for what is unread gets what is new.
    UnreadIsNew,
    /// Whoever asks for what is unread gets the last one that it has confirmed, too.
    UnreadIsConfirmed,
    /// Whoever asks for what is unread does not get the first of it.
    UnreadSkips,
    /// Whoever asks for what is unread is told that the history began anew, which it did not.
    UnreadBeginsAnew,
    CountsTooMany,
    CountsTooFew,
}
