//! Certificates of nodes: which are good for how long.
use crate::support::{Agent, ClientFile, Controller};
use crate::until_connected;
use proto_wire::v1;
use proto_wire::v1::renewal_client::RenewalClient;
use tonic::{Code, Status};

const ADDRESS: &str = "10.9.0.1";

/// The next certificate of a node, for a new key.
async fn renew(controller: &Controller, identity: &ClientFile) -> Result<ClientFile, Status> {
    let key = rcgen::KeyPair::generate().expect("key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("request");
    let request = v1::RenewRequest { signing_request: request.der().to_vec() };
    let answer = RenewalClient::new(controller.connect(identity).await).renew(request).await?.into_inner();
    assert_eq!(answer.node, "a");
    Ok(ClientFile {
        authority: answer.authority,
        certificate: answer.certificate_chain,
        key: key.serialize_pem(),
    })
}

async fn remove(controller: &Controller) {
    controller.admin().await.remove_node(v1::RemoveNodeRequest { node: "a".into() }).await.expect("remove");
}

/// How a session that is hung up on ended.
async fn refusal(mut agent: Agent) -> Status {
    agent.ended().await.expect("a reason")
}

fn is_of_an_earlier_enrolment(status: &Status) -> bool {
    let why = "this certificate is of an earlier enrolment of a; enrol again";
    status.code() == Code::PermissionDenied && status.message().contains(why)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_gets_neither_session_nor_certificate() {
    let controller = Controller::start().await;
    let agent = controller.agent("a", ADDRESS).await;
    until_connected(&controller, 1).await;
    let identity = agent.identity.clone();
    remove(&controller).await;
    assert_eq!(renew(&controller, &identity).await.expect_err("removed").code(), Code::PermissionDenied);
    let ghost = refusal(controller.session(identity, ADDRESS).await).await;
    assert_eq!(ghost.code(), Code::PermissionDenied, "{ghost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_nodes_certificate_stays_refused_when_another_gets_its_name() {
    let controller = Controller::start().await;
    let old = controller.agent("a", ADDRESS).await.identity.clone();
    remove(&controller).await;
    let new = controller.agent("a", ADDRESS).await;
    until_connected(&controller, 1).await;
    let controller = controller.restart().await;
    let ghost = refusal(controller.session(old.clone(), ADDRESS).await).await;
    assert!(is_of_an_earlier_enrolment(&ghost), "{ghost}");
    let refused = renew(&controller, &old).await.expect_err("of an earlier enrolment");
    assert!(is_of_an_earlier_enrolment(&refused), "{refused}");
    let _agent = controller.session(new.identity.clone(), ADDRESS).await;
    until_connected(&controller, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolling_again_ends_the_earlier_certificate_and_its_session() {
    let controller = Controller::start().await;
    let old = controller.agent("a", ADDRESS).await;
    until_connected(&controller, 1).await;
    let identity = old.identity.clone();
    let token = controller.token("a").await;
    let new = controller.enrol(&token).await.expect("enrol");
    let ended = refusal(old).await;
    assert!(ended.message().contains("enrolled anew"), "{ended}");
    let ghost = refusal(controller.session(identity, ADDRESS).await).await;
    assert!(is_of_an_earlier_enrolment(&ghost), "{ghost}");
    let _agent = controller.session(new, ADDRESS).await;
    until_connected(&controller, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_ends_the_old_one_with_its_first_session() {
    let controller = Controller::start().await;
    let token = controller.token("a").await;
    let old = controller.enrol(&token).await.expect("enrol");
    let new = renew(&controller, &old).await.expect("renewed");
    let agent = controller.session(old.clone(), ADDRESS).await;
    until_connected(&controller, 1).await;
    let _agent = controller.session(new, ADDRESS).await;
    let ended = refusal(agent).await;
    assert!(ended.message().contains("a newer session"), "{ended}");
    let ghost = refusal(controller.session(old, ADDRESS).await).await;
    assert!(is_of_an_earlier_enrolment(&ghost), "{ghost}");
}
