//! Who gets in: strangers are turned away before a byte of their message is read.
use crate::support::Controller;
use proto_wire::v1;
use proto_wire::v1::enrolment_client::EnrolmentClient;
use proto_wire::v1::renewal_client::RenewalClient;
use tokio::task::JoinSet;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Calls `path` and never sends the message.
async fn without_a_message(channel: Channel, path: &'static str) -> Option<Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("ready");
    let never = Request::new(tokio_stream::pending::<v1::Empty>());
    let codec = tonic_prost::ProstCodec::<v1::Empty, v1::Empty>::default();
    grpc.streaming(never, PathAndQuery::from_static(path), codec).await.err()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_call_is_refused_before_the_message_is_read() {
    let controller = Controller::start().await;
    let (fabric, renewal) = ("/foreweave.v1.Fabric/CreateCircuit", "/foreweave.v1.Renewal/Renew");
    for path in [fabric, renewal, "/foreweave.v1.Agents/Session"] {
        let refused = without_a_message(controller.stranger().await, path).await.expect("a refusal");
        assert_eq!(refused.code(), Code::Unauthenticated, "{path}: {refused}");
    }
    let node = controller.enrol(&controller.token("a").await).await.expect("enrol");
    let refused = without_a_message(controller.connect(&node).await, fabric).await.expect("a refusal");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let client = controller.connect(&controller.admin_file()).await;
    let refused = without_a_message(client, renewal).await.expect("a refusal");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_for_a_certificate_is_not_read() {
    let controller = Controller::start().await;
    let node = controller.enrol(&controller.token("a").await).await.expect("enrol");
    let request = v1::RenewRequest { signing_request: vec![0; 65 << 10] };
    let refused =
        RenewalClient::new(controller.connect(&node).await).renew(request).await.expect_err("large");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}

/// How an enrolment with nonsense is refused.
async fn nonsense(controller: &Controller) -> Code {
    let request = v1::EnrolRequest { token: "nonsense".into(), signing_request: vec![0] };
    EnrolmentClient::new(controller.stranger().await).enrol(request).await.expect_err("nonsense").code()
}

#[tokio::test(flavor = "multi_thread")]
async fn few_hosts_enrol_at_one_time_and_their_room_comes_back() {
    const ENROLMENTS: usize = 64;
    let controller = Controller::start().await;
    let channel = controller.stranger().await;
    // One more than there is room for, and nobody else: whoever gets in stays.
    let mut slow: JoinSet<_> = (0..=ENROLMENTS)
        .map(|_| without_a_message(channel.clone(), "/foreweave.v1.Enrolment/Enrol"))
        .collect();
    let refused = slow.join_next().await.expect("one of them").expect("no panic").expect("a refusal");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(nonsense(&controller).await, Code::Unavailable, "all the others are in");
    assert!(slow.try_join_next().is_none(), "only one was too many");
    drop((slow, channel));
    while nonsense(&controller).await != Code::InvalidArgument {}
    controller.enrol(&controller.token("a").await).await.expect("there is room");
}

/// Connections without a certificate that may come from one address at one time.
const STRANGERS: usize = 256;

#[tokio::test(flavor = "multi_thread")]
async fn who_has_called_with_a_certificate_is_no_stranger() {
    let controller = Controller::start().await;
    let file = controller.admin_file();
    let mut open = Vec::new();
    for _ in 0..=STRANGERS {
        let mut client = v1::fabric_client::FabricClient::new(controller.connect(&file).await);
        client.get_status(v1::Empty {}).await.expect("status");
        open.push(client);
    }
    open[0].get_status(v1::Empty {}).await.expect("the first one is open still");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_from_one_address_are_bounded() {
    let controller = Controller::start().await;
    let mut silent = Vec::new();
    for _ in 0..STRANGERS {
        silent.push(tokio::net::TcpStream::connect(controller.address()).await.expect("connect"));
    }
    let file = controller.admin_file();
    assert!(controller.try_connect(&file).await.is_err(), "there is no room");
    drop(silent);
    while controller.try_connect(&file).await.is_err() {}
}
