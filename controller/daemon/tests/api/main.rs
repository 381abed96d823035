//! The API over real TLS on loopback: who may do what, what bad input is answered, and that waiting means something.
mod enrolment;
mod gates;
mod recording;
mod support;

use proto_wire::convert::{refusal_of, requests};
use proto_wire::v1;
use proto_wire::v1::create_client_request::Role;
use proto_wire::v1::fabric_client::FabricClient;
use std::time::Duration;
use support::{Controller, circuit, hello, resource, say};
use tonic::{Code, Request};

const LONG: u64 = 20_000_000_000;

/// Two hosts with agents, a resource on each.
async fn two_hosts(controller: &Controller) -> [support::Agent; 2] {
    let agents = [controller.agent("a", "10.9.0.1").await, controller.agent("b", "10.9.0.2").await];
    let mut admin = controller.admin().await;
    // Sessions begin in the background; a resource needs only the node, a circuit the link.
    for (id, node) in [("web", "a"), ("db", "b")] {
        admin.register_resource(resource(id, node)).await.expect("register");
    }
    until_connected(controller, 2).await;
    agents
}

async fn until_connected(controller: &Controller, nodes: u32) {
    let mut admin = controller.admin().await;
    let mut events = admin
        .watch(v1::WatchRequest { nodes: true, ..Default::default() })
        .await
        .expect("watch")
        .into_inner();
    let mut connected = std::collections::BTreeSet::new();
    while connected.len() < nodes as usize {
        let event = events.message().await.expect("event").expect("more").event;
        if let Some(v1::event::Event::Node(node)) = event
            && node.state() == v1::node::State::Connected
        {
            connected.insert(node.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_becomes_active_when_all_agents_have_reported() {
    let controller = Controller::start().await;
    let _agents = two_hosts(&controller).await;
    let mut admin = controller.admin().await;
    let request =
        v1::CreateCircuitRequest { circuit: Some(circuit("web", "db")), wait: LONG, ..Default::default() };
    let made = admin.create_circuit(request).await.expect("create").into_inner();
    assert_eq!(made.state(), v1::circuit::State::Active, "{made:?}");
    assert_eq!(made.path.expect("path").nodes, ["a", "b"]);

    let found = admin
        .get_circuit(v1::CircuitRequest { circuit: "web-db".into() })
        .await
        .expect("by name")
        .into_inner();
    assert_eq!(found.id, made.id);
    let plan = admin
        .explain_circuit(v1::CircuitRequest { circuit: format!("c{}", made.id) })
        .await
        .expect("explain");
    assert!(plan.into_inner().chosen.is_some());

    let delete = v1::DeleteCircuitRequest { circuit: "web-db".into(), wait: LONG };
    admin.delete_circuit(delete).await.expect("delete");
    let gone =
        admin.get_circuit(v1::CircuitRequest { circuit: format!("c{}", made.id) }).await.expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_are_planned_and_placed_together() {
    let controller = Controller::start().await;
    let _agents = two_hosts(&controller).await;
    let mut admin = controller.admin().await;
    let ask = |dry_run| v1::PlaceCircuitsRequest {
        circuits: vec![circuit("web", "db")],
        dry_run,
        ..Default::default()
    };
    let planned = admin.place_circuits(ask(true)).await.expect("a plan").into_inner();
    assert!(planned.outcomes[0].circuit == 0 && planned.outcomes[0].path.is_some(), "{planned:?}");
    let placed = admin.place_circuits(ask(false)).await.expect("placed").into_inner();
    let found = v1::CircuitRequest { circuit: "web-db".into() };
    let found = admin.get_circuit(found).await.expect("by name").into_inner();
    assert_eq!(found.id, placed.outcomes[0].circuit);
    let twice = admin.place_circuits(ask(false)).await.expect_err("it is there");
    assert_eq!(twice.code(), Code::AlreadyExists);
    assert!(twice.message().contains("circuits[0]"), "{}", twice.message());
    let mut later = circuit("web", "db");
    (later.name, later.delay) = ("later".into(), 3_600_000_000_000);
    let none = v1::PlaceCircuitsRequest::default();
    assert_eq!(admin.place_circuits(none).await.expect_err("none").code(), Code::InvalidArgument);
    admin
        .delete_circuit(v1::DeleteCircuitRequest { circuit: "web-db".into(), wait: LONG })
        .await
        .expect("deleted");
    let request = v1::CreateCircuitRequest { circuit: Some(later), wait: LONG, ..Default::default() };
    let scheduled = admin.create_circuit(request).await.expect("scheduled, without a wait").into_inner();
    assert_eq!(scheduled.state(), v1::circuit::State::Scheduled);
    assert!(scheduled.path.is_some() && scheduled.spec.is_some_and(|spec| spec.starts > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_without_agents_is_answered_as_it_is_when_the_time_is_over() {
    let controller = Controller::start().await;
    let [a, b] = two_hosts(&controller).await;
    let mut admin = controller.admin().await;
    // Sessions that stay open and never report.
    let silent_a = mute(&controller, &a, "10.9.0.1").await;
    let silent_b = mute(&controller, &b, "10.9.0.2").await;
    let request = v1::CreateCircuitRequest {
        circuit: Some(circuit("web", "db")),
        wait: 50_000_000,
        ..Default::default()
    };
    let made = admin.create_circuit(request).await.expect("create").into_inner();
    assert_eq!(made.state(), v1::circuit::State::Building, "{made:?}");
    assert!(!made.waiting.is_empty());
    drop((silent_a, silent_b));
}

/// A newer session of the agent's node that hears and says nothing; returns when the old one was ended for it.
async fn mute(
    controller: &Controller,
    agent: &support::Agent,
    address: &str,
) -> tokio::sync::mpsc::Sender<v1::Say> {
    let channel = controller.connect(&agent.identity).await;
    let (sender, said) = tokio::sync::mpsc::channel(4);
    sender.send(hello(address)).await.expect("hello");
    let mut told = v1::agents_client::AgentsClient::new(channel)
        .session(tokio_stream::wrappers::ReceiverStream::new(said))
        .await
        .expect("session")
        .into_inner();
    told.message().await.expect("whole").expect("whole");
    let held = sender.clone();
    tokio::spawn(async move {
        while let Ok(Some(_)) = told.message().await {}
        drop(held);
    });
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_ends_the_older_one() {
    let controller = Controller::start().await;
    let mut first = controller.agent("a", "10.9.0.1").await;
    until_connected(&controller, 1).await;
    let _second = controller.session(first.identity.clone(), "10.9.0.1").await;
    let end = first.ended().await.expect("a reason");
    assert!(end.message().contains("newer session"), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_create_makes_one_circuit() {
    let controller = Controller::start().await;
    let _agents = two_hosts(&controller).await;
    let mut admin = controller.admin().await;
    let request = v1::CreateCircuitRequest {
        circuit: Some(circuit("web", "db")),
        idempotency_key: "once".into(),
        wait: LONG,
    };
    let first = admin.create_circuit(request.clone()).await.expect("first").into_inner();
    let again = admin.create_circuit(request.clone()).await.expect("again").into_inner();
    assert_eq!(first.id, again.id);
    let mut other = request.clone();
    other.circuit.as_mut().expect("spec").priority = 9;
    let refused = admin.create_circuit(other).await.expect_err("other content");
    assert!(refused.message().contains("once") || refused.message().contains("key"), "{refused}");
    let plain = v1::CreateCircuitRequest { idempotency_key: String::new(), ..request };
    let twice = admin.create_circuit(plain).await.expect_err("the pair has a circuit");
    assert_eq!(twice.code(), Code::AlreadyExists);
    assert_eq!(admin.list_circuits(v1::Empty {}).await.expect("list").into_inner().circuits.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_sessions_survive_a_restart() {
    let controller = Controller::start().await;
    let agents = two_hosts(&controller).await;
    let request =
        v1::CreateCircuitRequest { circuit: Some(circuit("web", "db")), wait: LONG, ..Default::default() };
    let made = controller.admin().await.create_circuit(request).await.expect("create").into_inner();
    let identities = agents.each_ref().map(|agent| agent.identity.clone());
    drop(agents);

    let controller = controller.restart().await;
    let mut admin = controller.admin().await;
    let kept =
        admin.get_circuit(v1::CircuitRequest { circuit: "web-db".into() }).await.expect("kept").into_inner();
    assert_eq!(kept.id, made.id);
    let [a, b] = identities;
    let _agents = [controller.session(a, "10.9.0.1").await, controller.session(b, "10.9.0.2").await];
    until_connected(&controller, 2).await;
    let mut events = admin
        .watch(v1::WatchRequest { circuits: true, ..Default::default() })
        .await
        .expect("watch")
        .into_inner();
    loop {
        if let Some(v1::event::Event::Circuit(view)) =
            events.message().await.expect("event").expect("more").event
            && view.state() == v1::circuit::State::Active
        {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_reads_and_is_told_which_role_it_lacks() {
    let controller = Controller::start().await;
    let mut viewer = controller.client("vera", Role::Viewer).await;
    viewer.get_status(v1::Empty {}).await.expect("viewers read");
    let request = v1::CreateCircuitRequest { circuit: Some(circuit("web", "db")), ..Default::default() };
    let refused = viewer.create_circuit(request).await.expect_err("viewers change nothing");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("operator"), "{refused}");
    assert!(!refusal_of(&refused).hint.is_empty());

    let mut operator = controller.client("otto", Role::Operator).await;
    let request = v1::CreateClientRequest { name: "eve".into(), role: Role::Admin.into() };
    let refused = operator.create_client(request).await.expect_err("operators make no clients");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refusal_of(&refused).hint.ends_with("foreweave client add NAME --role admin"), "{refused:?}");
    assert!(refused.message().contains("admin"), "{refused}");
    let refused = operator
        .create_token(v1::CreateTokenRequest { node: "x".into(), lifetime: 0 })
        .await
        .expect_err("operators make no tokens");
    assert!(refused.message().contains("admin"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_only_health_reflection_and_enrolment_answer() {
    let controller = Controller::start().await;
    let channel = controller.stranger().await;
    let refused =
        FabricClient::new(channel.clone()).get_status(v1::Empty {}).await.expect_err("no certificate");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let nobody = tokio_stream::iter(vec![hello("10.9.0.1")]);
    let refused =
        v1::agents_client::AgentsClient::new(channel.clone()).session(nobody).await.expect_err("no node");
    assert_eq!(refused.code(), Code::Unauthenticated);

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    for service in ["", "foreweave.v1.Fabric", "foreweave.v1.Agents", "foreweave.v1.Enrolment"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.expect(service).into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving,
            "{service}"
        );
    }
    let listed = reflected(channel).await;
    for service in
        ["foreweave.v1.Fabric", "foreweave.v1.Agents", "foreweave.v1.Enrolment", "grpc.health.v1.Health"]
    {
        assert!(listed.iter().any(|name| name == service), "{service} in {listed:?}");
    }
}

async fn reflected(channel: tonic::transport::Channel) -> Vec<String> {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers =
        client.server_reflection_info(tokio_stream::iter(vec![ask])).await.expect("reflection").into_inner();
    match answers.message().await.expect("answer").expect("one").message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|s| s.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_authority_are_refused() {
    let controller = Controller::start().await;
    let other = Controller::start().await;
    let mut file = other.admin_file();
    file.authority = controller.admin_file().authority;
    // TLS 1.3 lets the client finish first: the refusal shows with the connection or with the first call.
    if let Ok(channel) = controller.try_connect(&file).await {
        FabricClient::new(channel).get_status(v1::Empty {}).await.expect_err("foreign certificate");
    }
    let foreign_server = other.admin_file();
    assert!(
        controller.try_connect(&foreign_server).await.is_err(),
        "a client must not trust another authority"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_certificate_does_not_open_the_api_and_a_clients_no_session() {
    let controller = Controller::start().await;
    let node = controller.enrol(&controller.token("a").await).await.expect("enrol");
    let mut client = FabricClient::new(controller.connect(&node).await);
    let refused = client.get_status(v1::Empty {}).await.expect_err("nodes are no clients");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let channel = controller.connect(&controller.admin_file()).await;
    let words = tokio_stream::iter(vec![hello("10.9.0.1")]);
    let refused =
        v1::agents_client::AgentsClient::new(channel).session(words).await.expect_err("clients are no nodes");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_name_the_field_and_what_is_allowed() {
    let controller = Controller::start().await;
    let mut admin = controller.admin().await;
    let mut bad = circuit("web", "db");
    bad.bounds = Some(v1::Bounds { max_rtt: Some(u64::MAX), ..Default::default() });
    let request = v1::CreateCircuitRequest { circuit: Some(bad), ..Default::default() };
    let refused = admin.create_circuit(request).await.expect_err("absurd");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refusal = refusal_of(&refused);
    assert_eq!(refusal.field, "circuit.bounds.max_rtt");
    assert!(refusal.what.contains("3600000000000"), "{refusal}");
    let refused = admin.create_circuit(v1::CreateCircuitRequest::default()).await.expect_err("empty");
    assert_eq!(refusal_of(&refused).field, "circuit");
    let refused =
        admin.get_circuit(v1::CircuitRequest { circuit: "No Name".into() }).await.expect_err("name");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_things_are_not_found() {
    let controller = Controller::start().await;
    let mut admin = controller.admin().await;
    let circuit_request = || v1::CircuitRequest { circuit: "c99".into() };
    assert_eq!(admin.get_circuit(circuit_request()).await.expect_err("circuit").code(), Code::NotFound);
    assert_eq!(admin.explain_circuit(circuit_request()).await.expect_err("circuit").code(), Code::NotFound);
    let delete = v1::DeleteCircuitRequest { circuit: "nothing".into(), wait: LONG };
    assert_eq!(admin.delete_circuit(delete).await.expect_err("circuit").code(), Code::NotFound);
    let remove = v1::RemoveResourceRequest { resource_id: "nothing".into(), force: false };
    assert_eq!(admin.remove_resource(remove).await.expect_err("resource").code(), Code::NotFound);
    let node = v1::RemoveNodeRequest { node: "nothing".into() };
    assert_eq!(admin.remove_node(node).await.expect_err("node").code(), Code::NotFound);
    let refused = admin.register_resource(resource("web", "nowhere")).await.expect_err("node");
    assert!(refused.message().contains("nowhere"), "{refused}");
    let watch = v1::WatchDropsRequest { circuit: "c99".into(), node: String::new() };
    assert_eq!(admin.watch_drops(watch).await.expect_err("circuit").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_requests_are_refused_with_the_limit() {
    let controller = Controller::start().await;
    let mut admin = controller.admin().await;
    let request = v1::CircuitRequest { circuit: "x".repeat(2 << 20) };
    let refused = admin.get_circuit(request).await.expect_err("2 MiB");
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused}");
    assert!(refused.message().contains("1048576"), "{refused}");
    admin.get_status(v1::Empty {}).await.expect("the next request is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_once_for_its_node_until_it_expires() {
    let controller = Controller::start().await;
    let token = controller.token("a").await;
    let identity = controller.enrol(&token).await.expect("first use");
    assert!(identity.certificate.contains("BEGIN CERTIFICATE"));
    let again = controller.enrol(&token).await.expect_err("second use");
    assert_eq!(again.code(), Code::Unauthenticated, "{again}");

    let request = v1::CreateTokenRequest { node: "b".into(), lifetime: 1_000_000_000 };
    let short = controller.admin().await.create_token(request).await.expect("token").into_inner();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let late = controller.enrol(&short.token).await.expect_err("expired");
    assert_eq!(late.code(), Code::Unauthenticated, "{late}");

    let garbage = controller.enrol("fw1.garbage").await.expect_err("no token");
    assert_eq!(garbage.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_signing_request_does_not_use_the_token_up() {
    let controller = Controller::start().await;
    let token = controller.token("a").await;
    let mut client = v1::enrolment_client::EnrolmentClient::new(controller.stranger().await);
    let request = v1::EnrolRequest { token: token.clone(), signing_request: b"nonsense".to_vec() };
    assert_eq!(client.enrol(request).await.expect_err("nonsense").code(), Code::InvalidArgument);
    controller.enrol(&token).await.expect("the token still works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_hello() {
    let controller = Controller::start().await;
    let identity = controller.enrol(&controller.token("a").await).await.expect("enrol");
    let channel = controller.connect(&identity).await;
    let words = tokio_stream::iter(vec![say(v1::say::Say::AskWhole(v1::AskWhole {}))]);
    let mut told =
        v1::agents_client::AgentsClient::new(channel).session(words).await.expect("session").into_inner();
    let refused = told.message().await.expect_err("no hello");
    assert!(refused.message().contains("hello"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_reach_those_who_watch_their_circuit() {
    let controller = Controller::start().await;
    let [a, _b] = two_hosts(&controller).await;
    let mut admin = controller.admin().await;
    let request =
        v1::CreateCircuitRequest { circuit: Some(circuit("web", "db")), wait: LONG, ..Default::default() };
    let made = admin.create_circuit(request).await.expect("create").into_inner();
    let watch = v1::WatchDropsRequest { circuit: "web-db".into(), node: String::new() };
    let mut drops = admin.watch_drops(watch).await.expect("watch").into_inner();
    let drop = |circuit, reason: &str| v1::DropEvent { circuit, reason: reason.into(), ..Default::default() };
    let events = vec![drop(None, "malformed"), drop(Some(made.id), "denied_by_rule")];
    a.say.send(say(v1::say::Say::Drops(v1::DropEvents { events }))).await.expect("say");
    let seen = drops.message().await.expect("drop").expect("one");
    assert_eq!((seen.node.as_str(), seen.missed), ("a", 0));
    assert_eq!(seen.drop.expect("drop").reason, "denied_by_rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_is_then_what_changes() {
    let controller = Controller::start().await;
    let _agents = two_hosts(&controller).await;
    let mut admin = controller.admin().await;
    let mut events = admin.watch(v1::WatchRequest::default()).await.expect("watch").into_inner();
    let mut before = Vec::new();
    loop {
        match events.message().await.expect("event").expect("more").event.expect("event") {
            v1::event::Event::CaughtUp(_) => break,
            other => before.push(other),
        }
    }
    let resources = before.iter().filter(|event| matches!(event, v1::event::Event::Resource(_))).count();
    let nodes = before.iter().filter(|event| matches!(event, v1::event::Event::Node(_))).count();
    assert_eq!((resources, nodes), (2, 2));
    let remove = v1::RemoveResourceRequest { resource_id: "db".into(), force: false };
    admin.remove_resource(remove).await.expect("remove");
    loop {
        let event = events.message().await.expect("event").expect("more").event.expect("event");
        if event == v1::event::Event::ResourceGone("db".into()) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_daemon_writes_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let controller = Controller::start().await;
    let mode = |path: &str| {
        let path = controller.state.path().join(path);
        std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o700);
    for file in ["admin.toml", "authority/key.pem", "store.redb"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_and_answers_at_once() {
    let controller = Controller::start().await;
    let _agent = controller.agent("a", "10.9.0.1").await;
    let mut admin = controller.admin().await;
    let mut events = admin.watch(v1::WatchRequest::default()).await.expect("watch").into_inner();
    let wish = requests::Interest { circuits: true, resources: true, nodes: true };
    assert_eq!(requests::Interest::from(v1::WatchRequest::default()), wish);
    controller.daemon.stop().await.expect("stop");
    let end = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the watch ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    admin.get_status(Request::new(v1::Empty {})).await.expect_err("nobody listens any more");
}
