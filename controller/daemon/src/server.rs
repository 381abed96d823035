//! The port: TLS, all services, and the bounds of connections.
mod bounded;
mod gate;
mod strangers;

use crate::agents::{self, Agents};
use crate::api::{self, Api};
use crate::authority::Credentials;
use crate::enrolment::Enrolment;
use anyhow::{Context, Result};
use bounded::Bounds;
use futures::stream;
use proto_model::Name;
use proto_wire::{DESCRIPTORS, v1};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use strangers::Peer;
use strangers::Strangers;
use tokio::sync::Semaphore;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// Connections at one time, on all addresses together.
pub const CONNECTIONS: usize = 20_000;
/// Calls at one time on one connection.
const CALLS_PER_CONNECTION: u32 = 1024;
/// Largest request for a certificate.
const ENROLMENT_BYTES: usize = 64 << 10;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may last that calls nothing with a certificate; enough to enrol.
const STRANGER: Duration = Duration::from_secs(30);
/// A connection whose peer does not answer is given up after interval + timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens on all of `addresses`; with port 0 the system chooses one.
pub(crate) async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpIncoming>> {
    let mut bound = Vec::new();
    for address in addresses {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("listen: cannot listen on {address}"))?;
        bound.push(TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(HANDSHAKE)));
    }
    Ok(bound)
}

/// All services behind TLS. A client certificate is asked for and verified when shown; health, reflection and
/// enrolment work without one.
pub(crate) async fn router(
    credentials: &Credentials,
    region: &Name,
    authority: &str,
    api: Api,
    agents: Agents,
    enrolment: Enrolment,
) -> Result<Router> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&credentials.certificate, &credentials.key))
        .client_ca_root(Certificate::from_pem(authority))
        .client_auth_optional(true)
        .timeout(HANDSHAKE);
    let (health, health_service) = tonic_health::server::health_reporter();
    let fabric = v1::fabric_server::FabricServer::new(api).max_decoding_message_size(api::MOST_BYTES);
    let renewal =
        v1::renewal_server::RenewalServer::new(agents.clone()).max_decoding_message_size(ENROLMENT_BYTES);
    let agents = v1::agents_server::AgentsServer::new(agents).max_decoding_message_size(agents::MOST_BYTES);
    let enrolment =
        v1::enrolment_server::EnrolmentServer::new(enrolment).max_decoding_message_size(ENROLMENT_BYTES);
    health.set_serving::<v1::fabric_server::FabricServer<Api>>().await;
    health.set_serving::<v1::agents_server::AgentsServer<Agents>>().await;
    health.set_serving::<v1::renewal_server::RenewalServer<Agents>>().await;
    health.set_serving::<v1::enrolment_server::EnrolmentServer<Enrolment>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let server = Server::builder().tls_config(tls).context("TLS")?;
    Ok(server
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(InterceptedService::new(fabric, gate::clients(region.clone())))
        .add_service(InterceptedService::new(agents, gate::nodes(region.clone())))
        .add_service(InterceptedService::new(renewal, gate::nodes(region.clone())))
        .add_service(InterceptedService::new(enrolment, gate::few())))
}

/// Serves until `stop` comes.
pub(crate) async fn serve(
    router: Router,
    bound: Vec<TcpIncoming>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let bounds = Bounds { room, strangers: Strangers::default(), patience: STRANGER };
    let incoming =
        stream::select_all(bound.into_iter().map(|incoming| bounded::accept(incoming, bounds.clone())));
    router.serve_with_incoming_shutdown(incoming, stop).await.context("serving")
}
