//! Streams of what happens.
use super::{Answer, Api, Stream, WATCHES, odd};
use crate::engine::{DropFeed, Fed, Feed};
use futures::{StreamExt, stream};
use proto_model::access::Actor;
use proto_model::request::Request as Ask;
use proto_model::{Kind, Refusal};
use proto_wire::convert::requests::{DropInterest, Interest};
use proto_wire::convert::status_of;
use proto_wire::v1;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

impl Api {
    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.watches).try_acquire_owned().map_err(|_| {
            let what = format!("{WATCHES} watches are open already, no more are allowed");
            status_of(&Refusal::new(Kind::Exhausted, what).hint("close one, or ask for lists instead"))
        })
    }

    /// Ends with RESOURCE_EXHAUSTED when the reader is too slow, and with UNAVAILABLE when the controller stops.
    pub(super) fn watch_events(&self, actor: Actor, interest: Interest) -> Result<Stream<v1::Event>, Status> {
        let permit = self.permit()?;
        let (feed, queue, too_slow) = Feed::new();
        self.engine.watch(actor, interest, feed).map_err(|refusal| status_of(&refusal))?;
        let told = ReceiverStream::new(queue).flat_map(|fed| stream::iter(messages(fed))).map(Ok);
        let end = stream::once(async move {
            let _held = permit;
            Err(if too_slow.load(Ordering::Acquire) {
                let queue = crate::engine::WATCH_QUEUE;
                Status::resource_exhausted(format!(
                    "the reader is more than {queue} events behind; watch anew"
                ))
            } else {
                Status::unavailable("the controller is stopping; watch anew")
            })
        });
        Ok(Box::pin(told.chain(end)))
    }

    pub(super) async fn watch_drop_events(
        &self,
        actor: Actor,
        interest: DropInterest,
    ) -> Result<Stream<v1::NodeDropEvent>, Status> {
        let permit = self.permit()?;
        if let Some(node) = interest.node.clone() {
            // An unknown one is refused; nobody would ever be told anything.
            self.ask(actor.clone(), Ask::ListDrops { node: Some(node) }).await?;
        }
        let circuit = match interest.circuit {
            None => None,
            Some(circuit) => match self.ask(actor, Ask::GetCircuit { circuit }).await? {
                Answer::Circuit(view) => Some(view.circuit.id),
                other => return Err(odd(&other)),
            },
        };
        let (feed, queue) = DropFeed::new(circuit, interest.node);
        self.engine.watch_drops(feed).map_err(|refusal| status_of(&refusal))?;
        Ok(Box::pin(ReceiverStream::new(queue).map(move |(node, drop, missed)| {
            let _held = &permit;
            Ok(v1::NodeDropEvent { node: node.to_string(), drop: Some(drop.into()), missed })
        })))
    }
}

fn messages(fed: Fed) -> Vec<v1::Event> {
    match fed {
        Fed::Snapshot(events) => events.into_iter().map(v1::Event::from).collect(),
        Fed::CaughtUp => {
            vec![v1::Event { event: Some(v1::event::Event::CaughtUp(v1::Empty {})), ..Default::default() }]
        }
        Fed::Event(event) => vec![v1::Event::from(Arc::unwrap_or_clone(event))],
    }
}
