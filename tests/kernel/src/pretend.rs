//! Agents without a kernel: they enrol and speak like real ones, and say of everything that it is done.
use crate::lab::api::Config;
use anyhow::{Context, Result};
use proto_wire::v1::{self, agents_client::AgentsClient, enrolment_client::EnrolmentClient, say, tell};
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::mpsc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Enrols with the token and answers the controller until the session ends.
pub async fn agent(config: Config, token: String, underlays: Vec<v1::Underlay>) -> Result<()> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let channel = channel(&config, None).await?;
    let enrol = v1::EnrolRequest { token, signing_request: request.der().to_vec() };
    let answer = EnrolmentClient::new(channel).enrol(enrol).await.context("enrol")?.into_inner();
    let identity = Identity::from_pem(answer.certificate_chain, key.serialize_pem());
    let mut agents = AgentsClient::new(self::channel(&config, Some(identity)).await?);
    let (say, said) = mpsc::channel(64);
    say.send(hello(underlays)).await?;
    let words = futures::stream::unfold(said, async |mut said| said.recv().await.map(|word| (word, said)));
    let mut told = agents.session(words).await.context("session")?.into_inner();
    while let Some(word) = told.message().await? {
        let (generation, whole) = match word.tell {
            Some(tell::Tell::Whole(whole)) => (whole.generation, true),
            Some(tell::Tell::Changes(changes)) => (changes.to, false),
            None => continue,
        };
        let report = v1::Report { generation, whole, failed: Vec::new(), recovered: Vec::new() };
        say.send(v1::Say { say: Some(say::Say::Report(report)) }).await?;
    }
    Ok(())
}

fn hello(underlays: Vec<v1::Underlay>) -> v1::Say {
    let hello = v1::Hello {
        version: "pretended".into(),
        kernel: "none".into(),
        boot: "00000000-0000-0000-0000-000000000000".into(),
        underlays,
        datapath: Vec::new(),
    };
    v1::Say { say: Some(say::Say::Hello(hello)) }
}

async fn channel(config: &Config, identity: Option<Identity>) -> Result<Channel> {
    let controller = config.controllers.first().context("the configuration names no controller")?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&config.authority))
        .domain_name("controller.foreweave");
    let tls = match identity {
        Some(identity) => tls.identity(identity),
        None => tls,
    };
    Ok(Endpoint::from_shared(format!("https://{controller}"))?.tls_config(tls)?.connect().await?)
}
