//! A client of the lab's controller, for what the lab itself must ask: tokens, links, nodes, resources.
use super::namespace;
use super::plan::{Link, Plan, Workload};
use anyhow::{Context, Result};
use proto_wire::v1::{self, fabric_client::FabricClient};
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub type Client = FabricClient<Channel>;

/// What `admin.toml` holds.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub controllers: Vec<String>,
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

impl Config {
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        toml::from_str(&text).with_context(|| file.display().to_string())
    }
}

/// Connects with the client configuration in `file`; the caller is inside the controller's namespace.
pub async fn connect(file: &Path) -> Result<Client> {
    let config = Config::read(file)?;
    let controller = config.controllers.first().context("the configuration names no controller")?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(config.authority))
        .identity(Identity::from_pem(config.certificate, config.key))
        .domain_name("controller.foreweave");
    let endpoint =
        Endpoint::from_shared(format!("https://{controller}"))?.connect_timeout(Duration::from_secs(5));
    let channel = endpoint.tls_config(tls)?.connect().await;
    Ok(FabricClient::new(channel.with_context(|| format!("the controller at {controller}"))?))
}

/// Asks the controller something, from inside its namespace.
pub fn ask<T: Send>(plan: &Plan, question: impl AsyncFnOnce(Client) -> Result<T> + Send) -> Result<T> {
    let file = plan.folder().join("controller/admin.toml");
    namespace::inside(&plan.controller_namespace(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { question(connect(&file).await?).await })
    })
}

/// What the controller is told of a link.
pub(super) fn link_values(link: &Link) -> v1::SetLinkRequest {
    let [a, b] = &link.ends;
    let (a, b) = if a.host < b.host { (a, b) } else { (b, a) };
    let id = v1::LinkId { a: a.host.clone(), b: b.host.clone(), network: link.network.clone() };
    let values = v1::LinkValues {
        // A link without emulated delay still takes some microseconds; "0" would be a promise that nobody keeps.
        rtt: (!link.measured).then(|| (2 * link.shape.delay).max(100_000)),
        capacity: link.shape.rate,
        loss: if link.measured { 0 } else { link.shape.loss },
        price: link.price,
        encrypted: link.encrypted,
        require_encryption: false,
        tags: link.tags.clone(),
        disabled: false,
    };
    v1::SetLinkRequest { link: Some(id), values: Some(values) }
}

/// A workload as a resource, attached by the path of its namespace.
pub fn registration(workload: &Workload) -> Result<v1::RegisterResourceRequest> {
    let services = workload.services.iter().map(|text| service(text)).collect::<Result<_>>()?;
    let path = namespace::path(&workload.namespace).display().to_string();
    let metadata = v1::ResourceMetadata {
        form: v1::resource_metadata::Form::Container.into(),
        node: workload.host.clone(),
        attachment: Some(v1::Attachment { r#where: Some(v1::attachment::Where::Path(path)) }),
        interface: String::new(),
        addresses: workload.private.iter().map(|(address, _)| address.to_string()).collect(),
        labels: workload.labels.clone().into_iter().collect(),
        services,
    };
    Ok(v1::RegisterResourceRequest {
        resource_id: workload.name.clone(),
        metadata: Some(metadata),
        intents: Vec::new(),
        lease: None,
    })
}

/// `http tcp/80`.
fn service(text: &str) -> Result<v1::Service> {
    let wrong = || format!("\"{text}\" is not a service; write it like: http tcp/80");
    let (name, place) = text.split_once(' ').with_context(wrong)?;
    let (protocol, port) = place.split_once('/').with_context(wrong)?;
    let protocol = match protocol {
        "tcp" => v1::rule::Protocol::Tcp,
        "udp" => v1::rule::Protocol::Udp,
        _ => anyhow::bail!(wrong()),
    };
    Ok(v1::Service {
        name: name.to_owned(),
        protocol: protocol.into(),
        port: port.parse().ok().filter(|port| (1..=65_535).contains(port)).with_context(wrong)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_or_refused_with_an_example() {
        let http = service("http tcp/80").expect("service");
        assert_eq!((http.name.as_str(), http.port), ("http", 80));
        for wrong in ["http", "http tcp", "http sctp/80", "http tcp/0", "http tcp/65536", ""] {
            assert!(service(wrong).expect_err(wrong).to_string().contains("http tcp/80"));
        }
    }
}
