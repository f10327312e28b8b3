//! What is left in a store whose data has moved.

use std::time::Duration;

use runtime::report::chain;

use super::attempt::{Opened, Order};
use super::error::Error;
use super::record::{End, Step};
use crate::desired::Account;

/// Pods that end have half a minute for it, and read from the first store until then.
const LINGER: Duration = Duration::from_secs(40);
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Waits until nobody reads there any more, then removes the account with its data. The second store's record goes last: while
/// it is there, somebody will come back for the rest.
pub(super) async fn clean(order: &Order, account: &Account) {
    tokio::time::sleep(LINGER).await;
    while let Err(error) = empty(order, account).await {
        let error = chain(&error);
        tracing::warn!(owner = order.owner, error, "failed to remove what a move has left");
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    tracing::info!(
        owner = order.owner,
        datastore = order.source.name,
        "removed what a move has left"
    );
}

/// See [`clean`]; at once.
pub(super) async fn empty(order: &Order, account: &Account) -> Result<(), Error> {
    let mut source = Opened::connect(&order.source, &order.owner).await?;
    // Only the store that says itself that the data is elsewhere: a DataStore may have been pointed to another one since.
    let leaving = source.book().read(End::Leaving).await?;
    if leaving.is_some_and(|leaving| leaving.step == Step::Switched && leaving.other == order.target.name) {
        let left = source.account(Some(account)).await?;
        source.remove(left.as_ref().unwrap_or(account)).await?;
        source.book().remove(End::Leaving).await?;
    }
    let mut target = Opened::connect(&order.target, &order.owner).await?;
    target.book().remove(End::Arriving).await
}
