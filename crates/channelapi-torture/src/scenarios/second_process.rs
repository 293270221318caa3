//! A second server on the same data directory is refused, and the first does not notice.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{Orders, Report, no_doubts, open};
use crate::town;

/// What sysexits calls a temporary failure: the directory may be free later.
const EXIT_CODE: i32 = 75;
const PATIENCE: Duration = Duration::from_secs(20);
const LOAD: Duration = Duration::from_millis(300);

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    let mut report = Report::new();
    let (server, site) = open(&orders.binary, &town::configuration()).await?;
    let crowd = town::gather(&site, orders.seed).await?;
    for _ in 0..orders.cycles {
        sleep(LOAD).await;
        let (status, said) = server.rival(PATIENCE).await?;
        let code = status.and_then(|status| status.code());
        ensure!(
            code == Some(EXIT_CODE),
            "a second process on the same directory ended with {status:?} and not with {EXIT_CODE}; it said:\n{said}"
        );
        ensure!(said.contains("data"), "the refusal does not name the directory:\n{said}");
    }
    let history = crowd.disperse().await?;
    no_doubts(&history)?;
    report.add(&history, &server).await?;
    report.close(&format!("second-process: {} refused with {EXIT_CODE}", orders.cycles))
}
