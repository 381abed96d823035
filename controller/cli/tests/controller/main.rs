//! The program against a pretended controller on loopback, over real mutual TLS.
mod older;
mod plan;
mod watch;

use proto_model::{Kind, Refusal};
use proto_wire::v1::fabric_server::{Fabric, FabricServer};
use proto_wire::{convert, v1};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// What it shall do, and what it saw.
#[derive(Clone, Debug, Default)]
struct Pretended {
    create: Option<Result<v1::Circuit, Refusal>>,
    /// Does not answer the first create.
    mute_once: bool,
    events: Vec<v1::Event>,
    /// Hosts still have the circuit that is deleted, and nobody says so: as older builds did.
    closing: bool,
    /// Of all streams but the first, if they are others.
    later: Option<Vec<v1::Event>>,
    /// What every wish would become.
    plan: v1::Plan,
    /// Knows of no paths that a series could be asked of, as older builds.
    no_paths: bool,
    series: Arc<Mutex<Vec<v1::SeriesRequest>>>,
    streams: Arc<AtomicUsize>,
    keys: Arc<Mutex<Vec<String>>>,
    received: Arc<Notify>,
}

macro_rules! not_asked_for {
    ($($method:ident($request:ident) -> $response:ident;)+ => $($rest:tt)+) => {
        #[tonic::async_trait]
        impl Fabric for Pretended {
            $(async fn $method(&self, _: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                Err(convert::status_of(&Refusal::new(Kind::Forbidden, "that needs the role admin")))
            })+
            $($rest)+
        }
    };
}

not_asked_for! {
    register_resource(RegisterResourceRequest) -> Resource;
    update_resource_status(UpdateResourceStatusRequest) -> Resource;
    remove_resource(RemoveResourceRequest) -> Empty;
    extend_circuit(ExtendCircuitRequest) -> Circuit;
    confirm_rules(CircuitRequest) -> RuleSetView;
    rollback_rules(CircuitRequest) -> RuleSetView;
    get_resource(GetResourceRequest) -> Resource;
    discover_resources(DiscoverResourcesRequest) -> DiscoverResourcesResponse;
    place_circuits(PlaceCircuitsRequest) -> PlaceCircuitsResponse;
    explain_circuit(CircuitRequest) -> Plan;
    list_shortages(ListShortagesRequest) -> ListShortagesResponse;
    update_firewall_rule(UpdateFirewallRuleRequest) -> RuleSetView;
    list_nodes(Empty) -> ListNodesResponse;
    create_token(CreateTokenRequest) -> CreateTokenResponse;
    remove_node(RemoveNodeRequest) -> Empty;
    get_policy(NodeRequest) -> PolicyView;
    set_policy(SetPolicyRequest) -> PolicyView;
    confirm_policy(NodeRequest) -> PolicyView;
    rollback_policy(NodeRequest) -> PolicyView;
    set_link(SetLinkRequest) -> Link;
    create_client(CreateClientRequest) -> CreateClientResponse;
    forget_link(ForgetLinkRequest) -> Empty;
    why(WhyRequest) -> Trail;
    =>
    async fn list_resources(&self, _: Request<v1::Empty>) -> Result<Response<v1::ListResourcesResponse>, Status> {
        Ok(Response::new(v1::ListResourcesResponse::default()))
    }
    async fn list_circuits(&self, _: Request<v1::Empty>) -> Result<Response<v1::ListCircuitsResponse>, Status> {
        std::future::pending().await
    }
    async fn get_status(&self, _: Request<v1::Empty>) -> Result<Response<v1::Status>, Status> {
        Ok(Response::new(v1::Status { version: "9.9.9".into(), nodes: 3, ..Default::default() }))
    }
    async fn plan_circuit(&self, _: Request<v1::PlanCircuitRequest>) -> Result<Response<v1::Plan>, Status> {
        Ok(Response::new(self.plan.clone()))
    }
    async fn get_series(&self, ask: Request<v1::SeriesRequest>) -> Result<Response<v1::Series>, Status> {
        if self.no_paths {
            return Err(convert::status_of(&Refusal::invalid("subject", "is missing")));
        }
        self.series.lock().expect("series").push(ask.get_ref().clone());
        Ok(Response::new(plan::series(ask.into_inner())))
    }
    async fn create_circuit(&self, ask: Request<v1::CreateCircuitRequest>) -> Result<Response<v1::Circuit>, Status> {
        let seen = {
            let mut keys = self.keys.lock().expect("keys");
            keys.push(ask.into_inner().idempotency_key);
            keys.len()
        };
        self.received.notify_one();
        if self.mute_once && seen == 1 {
            std::future::pending::<()>().await;
        }
        let answer = self.create.clone().unwrap_or_else(|| Ok(circuit(v1::circuit::State::Active)));
        answer.map(Response::new).map_err(|refusal| convert::status_of(&refusal))
    }
    async fn list_links(&self, _: Request<v1::Empty>) -> Result<Response<v1::ListLinksResponse>, Status> {
        let links = [("a", "b", "wan"), ("a", "b", "lan"), ("a", "c", "wan")].map(link).to_vec();
        Ok(Response::new(v1::ListLinksResponse { links }))
    }
    async fn get_circuit(&self, _: Request<v1::CircuitRequest>) -> Result<Response<v1::Circuit>, Status> {
        let found = self.closing.then(|| circuit(v1::circuit::State::Closing));
        found.map(Response::new).ok_or_else(|| convert::status_of(&Refusal::not_found("there is no circuit web-db")))
    }
    async fn delete_circuit(
        &self,
        _: Request<v1::DeleteCircuitRequest>,
    ) -> Result<Response<v1::DeleteCircuitResponse>, Status> {
        Ok(Response::new(v1::DeleteCircuitResponse::default()))
    }
    async fn list_drops(&self, _: Request<v1::ListDropsRequest>) -> Result<Response<v1::ListDropsResponse>, Status> {
        let count = v1::DropCount { reason: "no_circuit".into(), packets: 7, ..Default::default() };
        let drop = |node: &str| v1::NodeDropCount { node: node.into(), drop: Some(count.clone()) };
        Ok(Response::new(v1::ListDropsResponse { drops: vec![drop("edge-a"), drop("edge-b")], ..Default::default() }))
    }
    type WatchStream = Stream<v1::Event>;
    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let first = self.streams.fetch_add(1, Ordering::Relaxed) == 0;
        let events = if first { &self.events } else { self.later.as_ref().unwrap_or(&self.events) };
        let events: Vec<_> = events.iter().cloned().map(Ok).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }
    type WatchDropsStream = Stream<v1::NodeDropEvent>;
    type TraceStream = Stream<v1::TraceEvent>;
    async fn trace(&self, _: Request<v1::TraceRequest>) -> Result<Response<Self::TraceStream>, Status> {
        Err(convert::status_of(&Refusal::new(Kind::Forbidden, "that needs the role operator")))
    }
    async fn watch_drops(&self, _: Request<v1::WatchDropsRequest>) -> Result<Response<Self::WatchDropsStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

fn link((a, b, network): (&str, &str, &str)) -> v1::Link {
    let measured =
        v1::Measured { probes: 50, rtt_max: 4_000_000, loss_backward: 20_000, ..Default::default() };
    v1::Link {
        id: Some(v1::LinkId { a: a.into(), b: b.into(), network: network.into() }),
        values: Some(v1::LinkValues::default()),
        measured: vec![v1::link::Measurement { node: b.into(), measured: Some(measured) }],
        ..Default::default()
    }
}

fn circuit(state: v1::circuit::State) -> v1::Circuit {
    v1::Circuit {
        id: 42,
        spec: Some(v1::CircuitSpec {
            name: "web-db".into(),
            source: "web".into(),
            destination: "db".into(),
            bounds: Some(v1::Bounds::default()),
            ..Default::default()
        }),
        state: state.into(),
        waiting: if state == v1::circuit::State::Active { Vec::new() } else { vec!["edge-b".into()] },
        path: Some(v1::Path { nodes: vec!["edge-a".into()], links: Vec::new() }),
        mtu: 1450,
        ..Default::default()
    }
}

/// A fabric's authority, with what it certified.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let pem = params.self_signed(&key).expect("authority").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key for a name.
    fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &self.issuer).expect("certificate").pem(), key.serialize_pem())
    }

    /// A client configuration file.
    fn configure(&self, controllers: &[SocketAddr]) -> tempfile::NamedTempFile {
        let (certificate, key) = self.certify("client");
        let controllers: Vec<String> = controllers.iter().map(|address| format!("\"{address}\"")).collect();
        let text = format!(
            "region = \"home\"\ncontrollers = [{}]\nauthority = '''{}'''\ncertificate = '''{certificate}'''\nkey = \
             '''{key}'''\n",
            controllers.join(", "),
            self.pem
        );
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("write");
        file
    }

    async fn serve(&self, pretended: Pretended) -> SocketAddr {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (certificate, key) = self.certify("controller.foreweave");
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(&self.pem));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let server =
            Server::builder().tls_config(tls).expect("TLS").add_service(FabricServer::new(pretended));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }
}

async fn foreweave(config: &tempfile::NamedTempFile, arguments: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_foreweave"))
        .arg("--config")
        .arg(config.path())
        .args(arguments)
        .output()
        .await
        .expect("foreweave runs")
}

/// The first lines of a program that does not end by itself.
async fn first_lines(config: &tempfile::NamedTempFile, arguments: &[&str], lines: usize) -> Vec<String> {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_foreweave"))
        .arg("--config")
        .arg(config.path())
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("foreweave runs");
    let mut shown = BufReader::new(program.stdout.take().expect("piped")).lines();
    let mut read = Vec::new();
    while read.len() < lines {
        read.push(shown.next_line().await.expect("text").expect("it goes on"));
    }
    read
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_created_circuit_is_shown_with_what_to_do_next() {
    let authority = Authority::new();
    let address = authority.serve(Pretended::default()).await;
    let config = authority.configure(&[address]);
    let output = foreweave(&config, &["circuit", "create", "web", "db", "--allow", "tcp/5432"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("c42 web-db")
            && shown.contains("1450 bytes")
            && shown.contains("foreweave explain web-db")
    );
    let output = foreweave(&config, &["--json", "circuit", "create", "web", "db"]).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&json["id"], &json["state"], &json["mtu"]),
        (&42.into(), &"STATE_ACTIVE".into(), &1450.into())
    );
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_makes_one_circuit() {
    let authority = Authority::new();
    let pretended = Pretended { mute_once: true, ..Default::default() };
    let controller = authority.serve(pretended.clone()).await;
    let between = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let config = authority.configure(&[between.local_addr().expect("address")]);
    let received = Arc::clone(&pretended.received);
    let broken = tokio::spawn(async move {
        for connection in 0.. {
            let (mut client, _) = between.accept().await.expect("accept");
            let mut server = TcpStream::connect(controller).await.expect("connect");
            let received = Arc::clone(&received);
            tokio::spawn(async move {
                let copy = tokio::io::copy_bidirectional(&mut client, &mut server);
                // The first connection breaks as soon as the request has arrived.
                tokio::select! { _ = copy => {}, () = received.notified(), if connection == 0 => {} }
            });
        }
    });
    let output = foreweave(&config, &["circuit", "create", "web", "db"]).await;
    broken.abort();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let keys = pretended.keys.lock().expect("keys").clone();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys[0].len(), 32);
}

#[tokio::test]
async fn two_commands_never_share_a_key() {
    let authority = Authority::new();
    let pretended = Pretended::default();
    let address = authority.serve(pretended.clone()).await;
    let config = authority.configure(&[address]);
    foreweave(&config, &["circuit", "create", "web", "db"]).await;
    foreweave(&config, &["circuit", "create", "web", "db"]).await;
    foreweave(&config, &["circuit", "create", "web", "db", "--idempotency-key", "mine"]).await;
    let keys = pretended.keys.lock().expect("keys").clone();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[2], "mine");
}

#[tokio::test]
async fn a_refusal_names_option_numbers_and_what_is_feasible() {
    let authority = Authority::new();
    let refusal = Refusal {
        field: "circuit.bounds.bandwidth".into(),
        ..Refusal::new(Kind::Exhausted, "340 Mbit/s are free, 500 Mbit/s needed")
    }
    .hint("up to 340 Mbit/s now");
    let address = authority.serve(Pretended { create: Some(Err(refusal)), ..Default::default() }).await;
    let config = authority.configure(&[address]);
    let ask = ["circuit", "create", "web", "db", "--bandwidth", "500mbit"];
    let output = foreweave(&config, &ask).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("error: --bandwidth: 340 Mbit/s are free, 500 Mbit/s needed"), "{said}");
    assert!(said.contains("hint: up to 340 Mbit/s now"), "{said}");
    let output = foreweave(&config, &[&ask[..], &["--json"]].concat()).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(json["error"]["kind"], "exhausted");
    assert_eq!(json["error"]["option"], "--bandwidth");
    assert_eq!(json["error"]["field"], "circuit.bounds.bandwidth");
}

#[tokio::test]
async fn a_missing_role_ends_with_four() {
    let authority = Authority::new();
    let address = authority.serve(Pretended::default()).await;
    let output = foreweave(&authority.configure(&[address]), &["node", "add", "edge-a"]).await;
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("role admin"));
}

#[tokio::test]
async fn a_circuit_that_is_not_in_force_yet_ends_with_five() {
    let authority = Authority::new();
    let building = circuit(v1::circuit::State::Building);
    let address = authority.serve(Pretended { create: Some(Ok(building)), ..Default::default() }).await;
    let config = authority.configure(&[address]);
    let output = foreweave(&config, &["circuit", "create", "web", "db", "--wait", "1s"]).await;
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("waiting for edge-b"), "{}", text(&output.stderr));
    let output = foreweave(&config, &["circuit", "create", "web", "db", "--no-wait"]).await;
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn another_fabrics_controller_is_not_talked_to() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let address = theirs.serve(Pretended::default()).await;
    let output = foreweave(&ours.configure(&[address]), &["status"]).await;
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("certificate") && said.contains("admin.toml"), "{said}");
}

#[tokio::test]
async fn the_next_controller_is_tried_when_the_first_is_gone() {
    let authority = Authority::new();
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address");
    let there = authority.serve(Pretended::default()).await;
    let output = foreweave(&authority.configure(&[gone, there]), &["status"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("9.9.9"));
}

#[tokio::test]
async fn a_controller_that_does_not_answer_is_given_up() {
    let authority = Authority::new();
    let address = authority.serve(Pretended::default()).await;
    let output =
        foreweave(&authority.configure(&[address]), &["circuit", "list", "--timeout", "200ms"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("did not answer within 0.2 s"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn links_between_two_nodes_are_shown_with_what_was_measured() {
    let authority = Authority::new();
    let config = authority.configure(&[authority.serve(Pretended::default()).await]);
    let output = foreweave(&config, &["link", "show", "b", "a", "--network", "wan"]).await;
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains("MEASURED BY b") && shown.contains("4 ms") && !shown.contains("lan"), "{shown}");
    let output = foreweave(&config, &["link", "show", "a", "b", "--json"]).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let links = json["links"].as_array().expect("links");
    assert_eq!(links.len(), 2, "both networks, and no other pair");
    assert_eq!(links[0]["measured"][0]["node"], "b");
    assert_eq!(links[0]["measured"][0]["measured"]["loss_backward"], 20_000);
    let output = foreweave(&config, &["link", "show", "a", "z"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no link between a and z"), "{}", text(&output.stderr));
}
