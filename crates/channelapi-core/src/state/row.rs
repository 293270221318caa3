//! How rows are shown that cannot be read.

use rusqlite::Row;

/// The bytes in a column, which may be no text any more, as they can be shown.
pub(super) fn shown(row: &Row<'_>, column: usize) -> String {
    let bytes = row.get::<_, Vec<u8>>(column).unwrap_or_default();
    format!("{:?}", String::from_utf8_lossy(&bytes))
}
