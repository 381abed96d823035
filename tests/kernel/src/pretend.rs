//! Agents without a kernel: they enrol and speak like real ones, and say of everything that it is done.
use crate::lab::api::Config;
use anyhow::{Context, Result};
use proto_wire::v1::{self, agents_client::AgentsClient, enrolment_client::EnrolmentClient, say, tell};
use rcgen::{CertificateParams, KeyPair};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A pass of a pretended agent over what it was told; a real one needs longer.
const PASS: Duration = Duration::from_millis(1);

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
    let mut pass = Report::default();
    loop {
        let word = match pass.end {
            Some(end) => tokio::time::timeout_at(end, told.message()).await,
            None => Ok(told.message().await),
        };
        match word {
            Ok(word) => match word? {
                Some(word) => pass.take(word),
                None => return Ok(()),
            },
            Err(_over) => say.send(std::mem::take(&mut pass).said()).await?,
        }
    }
}

/// What the next report covers: as a real agent does, all that was told until the end of a pass.
#[derive(Default)]
struct Report {
    generation: u64,
    whole: bool,
    end: Option<Instant>,
}

impl Report {
    fn take(&mut self, word: v1::Tell) {
        let (generation, whole) = match word.tell {
            Some(tell::Tell::Whole(whole)) => (whole.generation, true),
            Some(tell::Tell::Changes(changes)) => (changes.to, false),
            Some(tell::Tell::Ask(_)) | None => return,
        };
        self.generation = generation;
        self.whole |= whole;
        self.end.get_or_insert_with(|| Instant::now() + PASS);
    }

    fn said(self) -> v1::Say {
        let report = v1::Report {
            generation: self.generation,
            whole: self.whole,
            failed: Vec::new(),
            recovered: Vec::new(),
        };
        v1::Say { say: Some(say::Say::Report(report)) }
    }
}

fn hello(underlays: Vec<v1::Underlay>) -> v1::Say {
    let hello = v1::Hello {
        version: "pretended".into(),
        kernel: "none".into(),
        boot: "00000000-0000-0000-0000-000000000000".into(),
        underlays,
        datapath: Vec::new(),
        seal_keys: Vec::new(),
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
