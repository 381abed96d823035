//! A controller on loopback with real TLS, its clients, and agents that only pretend to have a kernel.
use controller_daemon::{Config, Daemon};
use proto_wire::v1;
use proto_wire::v1::agents_client::AgentsClient;
use proto_wire::v1::enrolment_client::EnrolmentClient;
use proto_wire::v1::fabric_client::FabricClient;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub(crate) struct Controller {
    pub(crate) daemon: Daemon,
    pub(crate) state: tempfile::TempDir,
}

/// What a client file says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ClientFile {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) fn config(state: &Path) -> Config {
    Config::for_loopback("local".parse().expect("name"), state.to_owned())
}

impl Controller {
    pub(crate) async fn start() -> Self {
        let state = tempfile::tempdir().expect("tempdir");
        let daemon = Daemon::start(config(state.path())).await.expect("start");
        Self { daemon, state }
    }

    /// Stops and starts on the same state.
    pub(crate) async fn restart(self) -> Self {
        let Self { daemon, state } = self;
        daemon.stop().await.expect("stop");
        let daemon = Daemon::start(config(state.path())).await.expect("start again");
        Self { daemon, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.daemon.addresses()[0]
    }

    pub(crate) fn admin_file(&self) -> ClientFile {
        let text = std::fs::read_to_string(self.daemon.admin()).expect("admin.toml");
        toml::from_str(&text).expect("client file")
    }

    pub(crate) async fn admin(&self) -> FabricClient<Channel> {
        FabricClient::new(self.connect(&self.admin_file()).await)
    }

    pub(crate) async fn client(
        &self,
        name: &str,
        role: v1::create_client_request::Role,
    ) -> FabricClient<Channel> {
        let request = v1::CreateClientRequest { name: name.into(), role: role.into() };
        let made = self.admin().await.create_client(request).await.expect("client").into_inner();
        let file = toml::from_str(&made.config).expect("client file");
        FabricClient::new(self.connect(&file).await)
    }

    pub(crate) async fn connect(&self, file: &ClientFile) -> Channel {
        self.try_connect(file).await.expect("connect")
    }

    pub(crate) async fn try_connect(&self, file: &ClientFile) -> Result<Channel, tonic::transport::Error> {
        let identity = Identity::from_pem(&file.certificate, &file.key);
        self.endpoint(tls(&file.authority).identity(identity)).connect().await
    }

    /// Without a certificate.
    pub(crate) async fn stranger(&self) -> Channel {
        self.endpoint(tls(&self.admin_file().authority)).connect().await.expect("connect")
    }

    fn endpoint(&self, tls: ClientTlsConfig) -> Endpoint {
        Endpoint::from_shared(format!("https://{}", self.address()))
            .expect("uri")
            .tls_config(tls)
            .expect("tls")
    }

    pub(crate) async fn token(&self, node: &str) -> String {
        let request = v1::CreateTokenRequest { node: node.into(), lifetime: 0 };
        self.admin().await.create_token(request).await.expect("token").into_inner().token
    }

    pub(crate) async fn enrol(&self, token: &str) -> Result<ClientFile, Status> {
        let key = rcgen::KeyPair::generate().expect("key");
        let request = rcgen::CertificateParams::default().serialize_request(&key).expect("request");
        let request = v1::EnrolRequest { token: token.into(), signing_request: request.der().to_vec() };
        let answer = EnrolmentClient::new(self.stranger().await).enrol(request).await?.into_inner();
        Ok(ClientFile {
            authority: answer.authority,
            certificate: answer.certificate_chain,
            key: key.serialize_pem(),
        })
    }

    /// Enrols a node and keeps its session until the agent is dropped.
    pub(crate) async fn agent(&self, node: &str, address: &str) -> Agent {
        let token = self.token(node).await;
        let identity = self.enrol(&token).await.expect("enrol");
        self.session(identity, address).await
    }

    pub(crate) async fn session(&self, identity: ClientFile, address: &str) -> Agent {
        let mut client = AgentsClient::new(self.connect(&identity).await);
        let (say, said) = mpsc::channel(64);
        say.send(hello(address)).await.expect("hello");
        let mut told = client.session(ReceiverStream::new(said)).await.expect("session").into_inner();
        let reports = say.clone();
        let (ended, end) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let end = loop {
                match told.message().await {
                    Ok(Some(tell)) => {
                        if reports.send(report(&tell)).await.is_err() {
                            break None;
                        }
                    }
                    Ok(None) => break None,
                    Err(status) => break Some(status),
                }
            };
            // The test may not care how it ended.
            let _ = ended.send(end);
        });
        Agent { identity, say, task, end: Some(end) }
    }
}

fn tls(authority: &str) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .domain_name("controller.foreweave")
}

/// Reports every generation as reached.
pub(crate) struct Agent {
    pub(crate) identity: ClientFile,
    pub(crate) say: mpsc::Sender<v1::Say>,
    task: tokio::task::JoinHandle<()>,
    end: Option<tokio::sync::oneshot::Receiver<Option<Status>>>,
}

impl Agent {
    /// How its session ended.
    pub(crate) async fn ended(&mut self) -> Option<Status> {
        self.end.take().expect("asked once").await.expect("task")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn hello(address: &str) -> v1::Say {
    let underlay = v1::Underlay {
        interface: "eth0".into(),
        network: "lan".into(),
        addresses: vec![address.into()],
        mtu: 1500,
        speed: Some(1_000_000_000),
        shape: false,
    };
    say(v1::say::Say::Hello(v1::Hello {
        version: "0".into(),
        kernel: "6".into(),
        boot: "b".into(),
        underlays: vec![underlay],
        datapath: Vec::new(),
        seal_keys: Vec::new(),
    }))
}

pub(crate) fn say(say: v1::say::Say) -> v1::Say {
    v1::Say { say: Some(say) }
}

fn report(tell: &v1::Tell) -> v1::Say {
    let generation = match tell.tell.as_ref().expect("tell") {
        v1::tell::Tell::Whole(whole) => whole.generation,
        v1::tell::Tell::Changes(changes) => changes.to,
        v1::tell::Tell::Ask(_) => 0,
    };
    say(v1::say::Say::Report(v1::Report {
        generation,
        whole: true,
        failed: Vec::new(),
        recovered: Vec::new(),
    }))
}

pub(crate) fn resource(id: &str, node: &str) -> v1::RegisterResourceRequest {
    v1::RegisterResourceRequest {
        resource_id: id.into(),
        metadata: Some(v1::ResourceMetadata {
            node: node.into(),
            attachment: Some(v1::Attachment { r#where: Some(v1::attachment::Where::Host(true)) }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn circuit(source: &str, destination: &str) -> v1::CircuitSpec {
    v1::CircuitSpec { source: source.into(), destination: destination.into(), ..Default::default() }
}
