//! The way into the engine: a bounded queue that refuses clients and slows agents when it is full.
use super::lines::Line;
use super::watchers::{DropFeed, Feed, TraceFeed};
use super::{Clock, QUEUE};
use controller_core::io::Session;
use proto_model::access::{Actor, Fingerprint};
use proto_model::report::Say;
use proto_model::request::{CircuitView, Left, Request, Response};
use proto_model::{CircuitId, Kind, NodeName, Refusal, Timestamp};
use proto_wire::convert::requests::Interest;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

pub type Answer = Result<Response, Refusal>;

/// How long an answer of the engine may take before the caller is told to try again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that can happen to the engine.
pub(super) enum Event {
    Ask {
        actor: Actor,
        request: Request,
        reply: oneshot::Sender<Answer>,
        until: Option<Until>,
    },
    /// With the line to answer on when it is the first of its session.
    Said {
        node: NodeName,
        session: Session,
        key: Fingerprint,
        say: Say,
        line: Option<Line>,
        taken: oneshot::Sender<()>,
    },
    Gone {
        node: NodeName,
        session: Session,
    },
    Watch {
        actor: Actor,
        interest: Interest,
        feed: Feed,
    },
    WatchDrops(DropFeed),
    WatchTrace(TraceFeed),
    Stop,
}

/// What a caller waits for beside the answer.
#[derive(Debug)]
pub enum Until {
    /// The circuit of the answer is active.
    Active(oneshot::Sender<CircuitView>),
    /// The rules of the answer are in force at both ends.
    Rules(oneshot::Sender<CircuitView>),
    /// The policy of the answer is in force on its host.
    Policy(oneshot::Sender<()>),
    /// This circuit is gone, but for these hosts.
    Gone(CircuitId, oneshot::Sender<Left>),
}

/// The engine's queue is full, or the engine has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overloaded {
    Full,
    Stopped,
}

impl From<Overloaded> for Refusal {
    fn from(overloaded: Overloaded) -> Self {
        match overloaded {
            Overloaded::Full => {
                metrics::counter!("foreweave_refused_full_total").increment(1);
                Self::new(
                    Kind::Unavailable,
                    format!("{QUEUE} requests and reports wait for the controller already"),
                )
                .hint("try again in a second")
            }
            Overloaded::Stopped => Self::new(Kind::Unavailable, "the controller is stopping"),
        }
    }
}

/// Clones share one queue.
#[derive(Clone)]
pub struct Handle {
    sender: mpsc::Sender<Event>,
    clock: Clock,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("free", &self.sender.capacity()).finish()
    }
}

impl Handle {
    pub(super) fn new(sender: mpsc::Sender<Event>, clock: Clock) -> Self {
        Self { sender, clock }
    }

    /// The answer, once what it promises is on the disk.
    pub async fn ask(&self, actor: Actor, request: Request) -> Answer {
        self.ask_until(actor, request, None).await
    }

    pub async fn ask_until(&self, actor: Actor, request: Request, until: Option<Until>) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.offer(Event::Ask { actor, request, reply, until })?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Overloaded::Stopped.into()),
            Err(_) => {
                let what = format!("the controller did not answer within {} s", PATIENCE.as_secs());
                Err(Refusal::new(Kind::Unavailable, what)
                    .hint("it may still do what was asked: look before you repeat"))
            }
        }
    }

    /// Waits until the engine has taken it: of what an agent says, one word at most is kept in memory here.
    pub async fn said(
        &self,
        node: NodeName,
        session: Session,
        key: Fingerprint,
        say: Say,
        line: Option<Line>,
    ) -> Result<(), Overloaded> {
        let (taken, waited) = oneshot::channel();
        let event = Event::Said { node, session, key, say, line, taken };
        self.sender.send(event).await.map_err(|_| Overloaded::Stopped)?;
        waited.await.map_err(|_| Overloaded::Stopped)
    }

    pub async fn gone(&self, node: NodeName, session: Session) {
        // A stopped engine has forgotten the session anyhow.
        let _ = self.sender.send(Event::Gone { node, session }).await;
    }

    pub fn watch(&self, actor: Actor, interest: Interest, feed: Feed) -> Result<(), Refusal> {
        self.offer(Event::Watch { actor, interest, feed })
    }

    pub fn watch_drops(&self, feed: DropFeed) -> Result<(), Refusal> {
        self.offer(Event::WatchDrops(feed))
    }

    pub fn watch_trace(&self, feed: TraceFeed) -> Result<(), Refusal> {
        self.offer(Event::WatchTrace(feed))
    }

    /// Decides what is in the queue, then ends all sessions and watches.
    pub async fn stop(&self) {
        let _ = self.sender.send(Event::Stop).await;
    }

    /// The engine's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn offer(&self, event: Event) -> Result<(), Refusal> {
        self.sender.try_send(event).map_err(|fault| {
            match fault {
                mpsc::error::TrySendError::Full(_) => Overloaded::Full,
                mpsc::error::TrySendError::Closed(_) => Overloaded::Stopped,
            }
            .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::access::Role;

    #[tokio::test]
    async fn a_full_queue_refuses_clients_by_name_and_number() {
        let (sender, inbox) = mpsc::channel(1);
        let handle = Handle::new(sender, Clock::system());
        handle.watch_drops(DropFeed::new(None, None).0).expect("room for one");
        let actor = Actor { name: "ann".parse().expect("name"), role: Role::Viewer };
        let refused = handle.ask(actor.clone(), Request::Status).await.expect_err("full");
        assert_eq!(refused.kind, Kind::Unavailable);
        assert!(refused.what.contains(&QUEUE.to_string()) && !refused.hint.is_empty(), "{refused}");
        drop(inbox);
        let refused = handle.ask(actor, Request::Status).await.expect_err("stopped");
        assert!(refused.what.contains("stopping"), "{refused}");
    }

    #[tokio::test]
    async fn an_agent_says_one_thing_at_a_time() {
        let (sender, mut inbox) = mpsc::channel(8);
        let handle = Handle::new(sender, Clock::system());
        let say = || {
            let node = "a".parse().expect("name");
            Box::pin(handle.said(node, Session(1), Fingerprint([0; 32]), Say::AskWhole, None))
        };
        let mut first = say();
        assert!(futures::poll!(&mut first).is_pending(), "there is room, but nobody took it");
        let Some(Event::Said { taken, .. }) = inbox.recv().await else { panic!("what was said") };
        assert!(futures::poll!(&mut first).is_pending());
        taken.send(()).expect("waited for");
        assert_eq!(first.await, Ok(()));
        let mut second = say();
        assert!(futures::poll!(&mut second).is_pending());
        drop(inbox);
        assert_eq!(second.await, Err(Overloaded::Stopped));
    }
}
