//! A moment that there may be none of. It must not know what happens then.

use tokio::time::{Instant, sleep_until};

/// Returns at that moment; never where there is none.
pub(crate) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
