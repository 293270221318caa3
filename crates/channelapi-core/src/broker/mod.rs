//! Who carries publications: a broker takes each one, keeps it, gives it its place, and tells the fan-out of every node.

mod embedded;
mod history;
mod permit;
mod sink;

#[cfg(feature = "fuzzing")]
pub use embedded::fuzzing;
pub use embedded::{
    CopyError, CursorKey, Damage, EmbeddedBroker, Figures, HistoryPage, HistoryQuery, LogBackup, OpenError,
    PublishError, PublishRequest, Published, Publishing, Report, SegmentStats, Standing, Stats,
    StoreSettings, backup as backup_log, carry_answers, stats as log_stats, verify as verify_log,
};
pub use history::{Depth, Gap, History, Loss, Page, Reading, Since, SinceError, Start, Top};
pub use permit::Permit;
pub use sink::PublicationSink;
