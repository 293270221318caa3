//! In the place of what begins work anew: nothing goes on here.

use std::convert::Infallible;
use std::time::Duration;

pub(crate) async fn keep_going<F>(_: &'static str, _: Duration, begin: impl Fn() -> F) -> Infallible
where
    F: Future<Output = ()>,
{
    begin().await;
    std::future::pending().await
}
