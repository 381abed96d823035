//! The agents' service: one session per node, and new certificates for nodes that have one.
use crate::authority::Authority;
use crate::engine::{Handle, Line, Outgoing};
use crate::identity;
use controller_core::io::Session;
use futures::{Stream, StreamExt};
use proto_model::NodeName;
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::report::Say;
use proto_model::request::Request as Ask;
use proto_wire::convert::status_of;
use proto_wire::v1;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Largest message of an agent: a report about 15,000 failures with the longest reasons.
pub(crate) const MOST_BYTES: usize = 16 << 20;
/// Within which the first word must be said.
const GREETING: Duration = Duration::from_secs(10);
/// Tells that wait for one agent before its session is ended.
const QUEUE: usize = crate::engine::LINE_QUEUE;

#[derive(Clone, Debug)]
pub(crate) struct Agents {
    engine: Handle,
    authority: Arc<Authority>,
    sessions: Arc<AtomicU64>,
}

type Tells = Pin<Box<dyn Stream<Item = Result<v1::Tell, Status>> + Send>>;

impl Agents {
    pub(crate) fn new(engine: Handle, authority: Arc<Authority>) -> Self {
        // Later sessions have larger numbers, also across restarts of the controller.
        let first = engine.now().0;
        Self { engine, authority, sessions: Arc::new(AtomicU64::new(first)) }
    }
}

#[tonic::async_trait]
impl v1::agents_server::Agents for Agents {
    type SessionStream = Tells;

    async fn session(&self, request: Request<Streaming<v1::Say>>) -> Result<Response<Tells>, Status> {
        let (node, key) = identity::node(&request, self.authority.region())?;
        let session = Session(self.sessions.fetch_add(1, Ordering::Relaxed));
        let (line, outgoing) = mpsc::channel(QUEUE);
        let (ended, end) = oneshot::channel();
        let reader = Reader { engine: self.engine.clone(), node, session, key, said: request.into_inner() };
        tokio::spawn(reader.run(line, end));
        Ok(Response::new(Box::pin(tells(outgoing, ended))))
    }
}

#[tonic::async_trait]
impl v1::renewal_server::Renewal for Agents {
    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let (node, shown) = identity::node(&request, self.authority.region())?;
        let der = Vec::<u8>::try_from(request.into_inner())?;
        let key = self
            .authority
            .check_request(&der)
            .map_err(|why| Status::invalid_argument(format!("signing_request: {why:#}")))?;
        self.must_be_enrolled(&node, shown, key.fingerprint()).await?;
        Ok(Response::new(certificate(&self.authority, &node, &key)?))
    }
}

impl Agents {
    /// Neither a removed node nor the certificate of an earlier enrolment gets a new one.
    async fn must_be_enrolled(
        &self,
        node: &NodeName,
        shown: Fingerprint,
        key: Fingerprint,
    ) -> Result<(), Status> {
        let actor = Actor { name: node.0.clone(), role: Role::Viewer };
        let ask = Ask::Renew { node: node.clone(), shown, key };
        self.engine.ask(actor, ask).await.map(|_done| ()).map_err(|refusal| status_of(&refusal))
    }
}

/// What an enrolled or renewed node is given.
pub(crate) fn certificate(
    authority: &Authority,
    node: &NodeName,
    key: &crate::authority::Signable,
) -> Result<v1::EnrolResponse, Status> {
    let certificate_chain = authority.node(node, key).map_err(|why| {
        tracing::error!(%node, why = format!("{why:#}"), "cannot sign a certificate");
        Status::internal("the certificate could not be signed; the controller's log says why")
    })?;
    Ok(v1::EnrolResponse { certificate_chain, authority: authority.pem().to_owned(), node: node.to_string() })
}

/// What goes out. `ended` lives as long as the stream: its drop tells the reader that nobody listens any more.
fn tells(
    outgoing: mpsc::Receiver<Outgoing>,
    ended: oneshot::Sender<()>,
) -> impl Stream<Item = Result<v1::Tell, Status>> {
    ReceiverStream::new(outgoing).map(move |outgoing| {
        let _held = &ended;
        match outgoing {
            Outgoing::Tell(tell) => Ok(v1::Tell::from(tell)),
            Outgoing::HangUp(status) => Err(status),
        }
    })
}

/// Takes what an agent says to the engine, until either side ends.
struct Reader {
    engine: Handle,
    node: NodeName,
    session: Session,
    key: Fingerprint,
    said: Streaming<v1::Say>,
}

impl Reader {
    async fn run(mut self, line: Line, end: oneshot::Receiver<()>) {
        let Some(hello) = self.greeting(&line).await else { return };
        let (node, session) = (self.node.clone(), self.session);
        let greeted = self.engine.said(node.clone(), session, self.key, hello, Some(line.clone())).await;
        // Only the engine holds the line from here: when it lets go, the stream ends.
        let parting = line.downgrade();
        drop(line);
        if greeted.is_err() {
            return;
        }
        tracing::info!(%node, session = session.0, "agent connected");
        let why = tokio::select! {
            why = self.listen() => why,
            _ = end => "its stream ended".into(),
        };
        if let Some(line) = parting.upgrade() {
            let _ = line.try_send(Outgoing::HangUp(Status::aborted(why.clone())));
        }
        tracing::info!(%node, session = session.0, why, "agent gone");
        self.engine.gone(node, session).await;
    }

    /// The first word; without it the session ends with the reason.
    async fn greeting(&mut self, line: &Line) -> Option<Say> {
        let fault = match tokio::time::timeout(GREETING, self.said.message()).await {
            Err(_) => Status::deadline_exceeded(format!("no hello within {} s", GREETING.as_secs())),
            Ok(Err(status)) => status,
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(say))) => match Say::try_from(say) {
                Ok(hello @ Say::Hello(_)) => return Some(hello),
                Ok(_) => Status::failed_precondition("the first word of a session must be hello"),
                Err(malformed) => malformed.into(),
            },
        };
        tracing::warn!(node = %self.node, why = fault.message(), "session refused");
        let _ = line.try_send(Outgoing::HangUp(fault));
        None
    }

    /// Returns why it ended.
    async fn listen(&mut self) -> String {
        loop {
            let say = match self.said.message().await {
                Ok(Some(say)) => say,
                Ok(None) => return "the agent closed it".into(),
                Err(status) => return status.message().to_owned(),
            };
            let say = match Say::try_from(say) {
                Ok(Say::Hello(_)) => return "a second hello in one session".into(),
                Ok(say) => say,
                Err(malformed) => return malformed.to_string(),
            };
            let said = self.engine.said(self.node.clone(), self.session, self.key, say, None).await;
            if said.is_err() {
                return "the controller stops".into();
            }
        }
    }
}
