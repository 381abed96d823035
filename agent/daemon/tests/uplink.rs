//! The session with the controller, against a pretended one over real TLS on loopback.
use agent_daemon::identity::{self, Enrolment, Identity, SERVER_NAME};
use agent_daemon::uplink::{self, Event};
use base64::Engine as _;
use proto_model::desired::Tell;
use proto_wire::v1;
use proto_wire::v1::agents_server::{Agents, AgentsServer};
use proto_wire::v1::enrolment_server::{Enrolment as EnrolmentService, EnrolmentServer};
use proto_wire::v1::renewal_server::{Renewal, RenewalServer};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Certificate, Identity as TlsIdentity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// The only node's name.
const NODE: &str = "edge-a";
const PATIENCE: Duration = Duration::from_secs(20);

struct Authority {
    pem: String,
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("an authority");
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    fn server(&self) -> TlsIdentity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        TlsIdentity::from_pem(certificate.pem(), key.serialize_pem())
    }

    fn token(&self, controllers: &[String]) -> String {
        let json = serde_json::json!({
            "region": "local", "node": NODE, "secret": "c2VjcmV0",
            "authority": base64::engine::general_purpose::STANDARD.encode(&self.der),
            "controllers": controllers,
        });
        format!("fw1.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string()))
    }
}

/// What a session is told, one list per session in order; the last one is repeated.
#[derive(Clone)]
struct Pretended {
    authority: Arc<Authority>,
    script: Arc<Mutex<Vec<Vec<v1::Tell>>>>,
    heard: mpsc::Sender<v1::Say>,
}

#[tonic::async_trait]
impl Agents for Pretended {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::Tell, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::Say>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut says = request.into_inner();
        // A controller answers after the first words only.
        let first = says.message().await?.ok_or_else(|| Status::invalid_argument("nothing was said"))?;
        self.heard.send(first).await.map_err(|_| Status::cancelled("over"))?;
        let tells = {
            let mut script = self.script.lock().expect("script");
            if script.len() > 1 { script.remove(0) } else { script[0].clone() }
        };
        let (tell, told) = mpsc::channel(16);
        tokio::spawn(async move {
            for one in tells {
                let _ = tell.send(Ok(one)).await;
            }
            while says.next().await.is_some() {}
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }
}

#[tonic::async_trait]
impl Renewal for Pretended {
    async fn renew(&self, _: Request<v1::RenewRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        Err(Status::unavailable("not now"))
    }
}

#[tonic::async_trait]
impl EnrolmentService for Pretended {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let request = request.into_inner();
        let der = request.signing_request.into();
        let asked = CertificateSigningRequestParams::from_der(&der)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let certificate = CertificateParams::new(vec![NODE.into()])
            .and_then(|params| params.signed_by(&asked.public_key, &self.authority.issuer))
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::EnrolResponse {
            certificate_chain: certificate.pem() + &self.authority.pem,
            authority: self.authority.pem.clone(),
            node: NODE.into(),
        }))
    }
}

/// Listens on a free port of loopback.
async fn serve(pretended: Pretended) -> String {
    agent_daemon::install_crypto();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let authority = pretended.authority.clone();
    let tls = ServerTlsConfig::new()
        .identity(authority.server())
        .client_ca_root(Certificate::from_pem(&authority.pem))
        .client_auth_optional(true);
    let server = Server::builder()
        .tls_config(tls)
        .expect("TLS")
        .add_service(AgentsServer::new(pretended.clone()))
        .add_service(RenewalServer::new(pretended.clone()))
        .add_service(EnrolmentServer::new(pretended))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    address
}

fn pretended(script: Vec<Vec<v1::Tell>>) -> (Pretended, mpsc::Receiver<v1::Say>) {
    let (heard, hears) = mpsc::channel(16);
    let authority = Arc::new(Authority::new());
    (Pretended { authority, script: Arc::new(Mutex::new(script)), heard }, hears)
}

async fn enrolled(pretended: &Pretended, controllers: Vec<String>, state: &Path) -> Identity {
    let token = pretended.authority.token(&controllers);
    let enrolment = Enrolment { token, controllers: Vec::new(), state: state.to_owned(), replace: false };
    identity::enrol(&enrolment).await.expect("enrolled")
}

fn whole(generation: u64) -> v1::Tell {
    v1::Tell { tell: Some(v1::tell::Tell::Whole(v1::tell::Whole { generation, objects: Vec::new() })) }
}

/// A hop under label 0, which does not exist.
fn malformed() -> v1::Tell {
    let hop = v1::Object { object: Some(v1::object::Object::Hop(v1::Hop::default())) };
    v1::Tell { tell: Some(v1::tell::Tell::Whole(v1::tell::Whole { generation: 1, objects: vec![hop] })) }
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time").expect("an event")
}

/// Says the first words, as the engine does, and gives the number and the line of the session.
async fn connected(events: &mut mpsc::Receiver<Event>) -> (u64, uplink::Line) {
    match next(events).await {
        Event::Connected { session, line } => {
            assert!(line.say(v1::Say { say: Some(v1::say::Say::AskWhole(v1::AskWhole {})) }));
            (session, line)
        }
        other => panic!("expected a session, not {other:?}"),
    }
}

fn is_whole(event: &Event, number: u64) -> bool {
    matches!(event, Event::Told { session, tell: Tell::Whole { .. } } if *session == number)
}

#[tokio::test]
async fn an_enrolled_agent_speaks_first_and_is_told() {
    let (controller, mut hears) = pretended(vec![vec![whole(1), whole(2)]]);
    let address = serve(controller.clone()).await;
    let state = tempfile::tempdir().expect("a directory");
    let identity = enrolled(&controller, vec![address], state.path()).await;
    assert_eq!(Identity::load(state.path()).expect("stored"), identity);
    let (sender, mut events) = mpsc::channel(16);
    let task = tokio::spawn(uplink::run(identity, state.path().to_owned(), sender));
    let (session, _line) = connected(&mut events).await;
    assert!(hears.recv().await.is_some());
    assert!(is_whole(&next(&mut events).await, session));
    assert!(is_whole(&next(&mut events).await, session));
    drop(events);
    task.await.expect("it ends when nobody listens").expect("without an error");
}

#[tokio::test]
async fn a_malformed_message_ends_the_session_and_a_new_one_begins() {
    let (controller, _hears) = pretended(vec![vec![malformed(), whole(1)], vec![whole(2)]]);
    let address = serve(controller.clone()).await;
    let state = tempfile::tempdir().expect("a directory");
    let identity = enrolled(&controller, vec![address], state.path()).await;
    let (sender, mut events) = mpsc::channel(16);
    let task = tokio::spawn(uplink::run(identity, state.path().to_owned(), sender));
    let (first, _line) = connected(&mut events).await;
    let ended = next(&mut events).await;
    assert!(matches!(ended, Event::Disconnected { session } if session == first), "{ended:?}");
    let (second, _line) = connected(&mut events).await;
    assert!(second > first);
    assert!(is_whole(&next(&mut events).await, second));
    task.abort();
}

#[tokio::test]
async fn a_dead_controller_is_passed_over() {
    let (controller, _hears) = pretended(vec![vec![whole(1)]]);
    let address = serve(controller.clone()).await;
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = dead.local_addr().expect("an address").to_string();
    drop(dead);
    let state = tempfile::tempdir().expect("a directory");
    let identity = enrolled(&controller, vec![nobody, address], state.path()).await;
    let (sender, mut events) = mpsc::channel(16);
    let task = tokio::spawn(uplink::run(identity, state.path().to_owned(), sender));
    let (session, _line) = connected(&mut events).await;
    assert_eq!(session, 2, "the first attempt was the dead one");
    assert!(is_whole(&next(&mut events).await, session));
    task.abort();
}

#[tokio::test]
async fn dropping_the_line_opens_a_new_session() {
    let (controller, _hears) = pretended(vec![vec![whole(1)]]);
    let address = serve(controller.clone()).await;
    let state = tempfile::tempdir().expect("a directory");
    let identity = enrolled(&controller, vec![address], state.path()).await;
    let (sender, mut events) = mpsc::channel(16);
    let task = tokio::spawn(uplink::run(identity, state.path().to_owned(), sender));
    let (first, line) = connected(&mut events).await;
    assert!(is_whole(&next(&mut events).await, first));
    drop(line);
    assert!(matches!(next(&mut events).await, Event::Disconnected { session } if session == first));
    assert!(connected(&mut events).await.0 > first);
    task.abort();
}

#[tokio::test]
async fn a_controller_of_another_fabric_is_not_trusted() {
    let (controller, _hears) = pretended(vec![vec![whole(1)]]);
    let (stranger, _) = pretended(vec![vec![whole(1)]]);
    let address = serve(stranger).await;
    let state = tempfile::tempdir().expect("a directory");
    let token = controller.authority.token(&[address]);
    let enrolment =
        Enrolment { token, controllers: Vec::new(), state: state.path().to_owned(), replace: false };
    let refusal = format!("{:#}", identity::enrol(&enrolment).await.expect_err("another authority"));
    assert!(refusal.contains("no controller was reached"), "{refusal}");
    assert_eq!(std::fs::read_dir(state.path()).expect("directory").count(), 0, "nothing is stored");
}
