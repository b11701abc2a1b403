//! What has happened, read from the log piece by piece: commands go on between two pieces.

use rehull_proto::v1::{HistoryEntry, HistoryRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::operators::{optional, parsed};
use crate::{
    engine::{Error, Handle},
    projection::Filter,
};

/// Entries that may wait for a slow terminal; then nothing more is read.
const ENTRIES_MAX: usize = 256;

/// The part of the log that is asked for.
pub(super) fn filter(request: HistoryRequest) -> Result<Filter, Status> {
    let HistoryRequest { cluster, node, since, events } = request;
    let since = match since.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|bad| {
            Status::invalid_argument(format!("since: {text:?} is not RFC 3339: {bad}"))
        })?),
    };
    let events = events.into_iter().collect();
    Ok(Filter { cluster: parsed(&cluster)?, node: optional(&node)?, since, events })
}

/// Everything up to what is on disk now.
pub(super) fn entries(
    handle: Handle,
    filter: Filter,
) -> ReceiverStream<Result<HistoryEntry, Status>> {
    let (sender, entries) = mpsc::channel(ENTRIES_MAX);
    tokio::spawn(async move {
        if let Err(error) = tell(&handle, &filter, &sender).await {
            _ = sender.send(Err(Status::data_loss(error.to_string()))).await; // it may have gone
        }
    });
    ReceiverStream::new(entries)
}

async fn tell(
    handle: &Handle,
    filter: &Filter,
    sender: &mpsc::Sender<Result<HistoryEntry, Status>>,
) -> Result<(), Error> {
    let end = handle.published().sequence;
    let mut next = 1;
    while next <= end {
        for (seq, recorded) in handle.read(next).await? {
            next = seq + 1;
            let Some(entry) = filter.entry(seq, &recorded) else { continue };
            if sender.send(Ok(entry)).await.is_err() {
                return Ok(()); // nobody listens any more
            }
        }
    }
    Ok(())
}
