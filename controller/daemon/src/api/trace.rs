//! Packets of a circuit as its hosts tell them, until the time is over or the reader goes.
use super::{Answer, Api, Stream, odd};
use crate::engine::{Handle, TraceFeed};
use futures::{StreamExt, stream};
use proto_model::access::Actor;
use proto_model::request::Request as Ask;
use proto_model::{CircuitId, Timestamp};
use proto_wire::convert::status_of;
use proto_wire::v1;
use proto_wire::v1::trace_event::{Began, Event, Packet};
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Records may still be under way when the time is over.
const AFTER: Duration = Duration::from_millis(500);

impl Api {
    /// Whoever follows packets sees what users send: it is logged.
    pub(super) async fn follow(&self, actor: Actor, ask: Ask) -> Result<Stream<v1::TraceEvent>, Status> {
        let permit = self.permit()?;
        let snaplen = if let Ask::StartTrace { snaplen, .. } = &ask { *snaplen } else { 0 };
        let (answer, held) = self.start(actor.clone(), ask).await?;
        let (circuit, name, until, nodes, absent) = match answer {
            Answer::Tracing { circuit, name, until, nodes, absent } => (circuit, name, until, nodes, absent),
            other => return Err(odd(&other)),
        };
        let absent = absent.iter().map(ToString::to_string).collect();
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        tracing::info!(client = %actor.name, role = %actor.role, %circuit, %name, %until, ?nodes, snaplen, "packets are followed");
        let (feed, queue) = TraceFeed::new(circuit);
        self.engine.watch_trace(feed).map_err(|refusal| status_of(&refusal))?;
        let left = until.since(self.engine.now()) + AFTER;
        let began = Began { circuit: circuit.0, name: name.to_string(), until: until.0, nodes, absent };
        let packets = ReceiverStream::new(queue).map(|(node, packet, missed)| {
            Event::Packet(Packet { node: node.to_string(), packet: Some(packet.into()), missed })
        });
        let told = stream::once(async { Event::Began(began) })
            .chain(packets.take_until(Box::pin(tokio::time::sleep(left))))
            .chain(stream::once(async { Event::Ended(v1::Empty {}) }));
        Ok(Box::pin(told.map(move |event| {
            let _held = (&permit, &held);
            Ok(v1::TraceEvent { event: Some(event) })
        })))
    }
}

impl Api {
    /// In a task of its own: a reader that goes before the answer is there does not take the end of the trace along.
    async fn start(&self, actor: Actor, ask: Ask) -> Result<(Answer, Option<Following>), Status> {
        let api = self.clone();
        let begun = tokio::spawn(async move {
            let answer = api.ask(actor.clone(), ask).await?;
            let held = match &answer {
                Answer::Tracing { circuit, until, .. } => {
                    let (engine, circuit, until) = (api.engine.clone(), *circuit, *until);
                    Some(Following { engine, actor, circuit, until })
                }
                _ => None,
            };
            Ok((answer, held))
        });
        begun.await.map_err(|error| Status::internal(error.to_string()))?
    }
}

/// Ends the trace when its reader goes.
#[derive(Debug)]
struct Following {
    engine: Handle,
    actor: Actor,
    circuit: CircuitId,
    until: Timestamp,
}

impl Drop for Following {
    fn drop(&mut self) {
        let (engine, actor) = (self.engine.clone(), self.actor.clone());
        let stop = Ask::StopTrace { circuit: self.circuit, until: self.until };
        // A controller that stops has forgotten it anyway.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { engine.ask(actor, stop).await });
        }
    }
}
