//! The connection to a controller: mutual TLS, the first that answers, and again when the connection breaks.
use crate::config::Config;
use crate::failure::Failure;
use proto_wire::convert;
use proto_wire::v1::fabric_client::FabricClient;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};

/// The name in every controller's certificate, whatever its address.
const CONTROLLER: &str = "controller.foreweave";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that says nothing for an interval and a timeout is gone (a watch would otherwise hang on a dead link).
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long to rest before each further try; together 2.6 s, about what a controller needs to restart.
const BACKOFF: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// Answers are lists of everything: tens of megabytes with 100,000 circuits.
const LARGEST_ANSWER: usize = 256 << 20;

/// Whether a request may be sent again when the connection broke before its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Sent twice it does the same as once.
    Yes,
    No,
}

#[derive(Debug)]
pub struct Fabric {
    controllers: Vec<String>,
    tls: ClientTlsConfig,
    timeout: Duration,
    client: FabricClient<Channel>,
}

impl Fabric {
    pub async fn connect(config: &Config, timeout: Duration) -> Result<Self, Failure> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&config.authority))
            .identity(Identity::from_pem(&config.certificate, &config.key))
            .domain_name(CONTROLLER);
        let client = first(&config.controllers, &tls).await?;
        Ok(Self { controllers: config.controllers.clone(), tls, timeout, client })
    }

    /// Asks and waits for the answer, `waiting` longer than usual; connects and asks again when that is allowed.
    pub async fn ask<Q, R>(
        &mut self,
        again: Again,
        waiting: Duration,
        request: Q,
        call: impl AsyncFn(FabricClient<Channel>, Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure>
    where
        Q: Clone,
    {
        let mut rests = BACKOFF.iter();
        loop {
            let patience = self.timeout + waiting;
            let answer =
                tokio::time::timeout(patience, call(self.client.clone(), Request::new(request.clone())))
                    .await;
            let status = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(Failure::NoAnswer { after: patience }),
            };
            if again == Again::No || !broken(&status) {
                return Err(failure(&status, &self.controllers));
            }
            let Some(rest) = rests.next() else { return Err(failure(&status, &self.controllers)) };
            tokio::time::sleep(*rest).await;
            // What cannot be reached now may be with the next try; the last try's reason is the one to tell.
            match first(&self.controllers, &self.tls).await {
                Ok(client) => self.client = client,
                Err(failure) if rests.len() == 0 => return Err(failure),
                Err(_) => {}
            }
        }
    }

    /// Asks what changes nothing.
    pub async fn read<Q: Clone, R>(
        &mut self,
        request: Q,
        call: impl AsyncFn(FabricClient<Channel>, Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        self.ask(Again::Yes, Duration::ZERO, request, call).await
    }

    /// What a broken stream or a refused call means.
    pub fn failure(&self, status: &Status) -> Failure {
        failure(status, &self.controllers)
    }
}

/// The first controller that lets us in.
async fn first(controllers: &[String], tls: &ClientTlsConfig) -> Result<FabricClient<Channel>, Failure> {
    let mut tried = Vec::new();
    for address in controllers {
        match connect(address, tls).await {
            Ok(channel) => return Ok(FabricClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)),
            Err(why) => tried.push((address.clone(), why)),
        }
    }
    let hint = hint_for(&tried);
    Err(Failure::Unreachable { tried, hint })
}

async fn connect(address: &str, tls: &ClientTlsConfig) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(tls.clone()))
        .map_err(|error| chain(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| chain(&error))
}

/// The causes without the outer words that say nothing ("transport error"), each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if text != "transport error" && !causes.iter().any(|cause| cause.contains(&text)) {
            causes.push(text);
        }
        next = error.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

/// How a connection ends that had come about.
const BROKEN: [&str; 4] = ["close_notify", "reading a body", "connection reset", "broken pipe"];

/// The way out of the commonest reasons.
fn hint_for(tried: &[(String, String)]) -> String {
    let reasons: String = tried.iter().map(|(_, why)| why.to_lowercase()).collect::<Vec<_>>().join(" ");
    let hint = if BROKEN.iter().any(|words| reasons.contains(words)) {
        "the connection broke: the controller was stopped, or the way to it is cut; try again"
    } else if reasons.contains("certificate") || reasons.contains("invalid peer") || reasons.contains("tls") {
        "another fabric's controller answers there, or this configuration is of an older one: take admin.toml from its \
         state directory, or have a new one made with foreweave client add"
    } else if reasons.contains("dns") || reasons.contains("lookup") || reasons.contains("resolve") {
        "the name is not known here; the addresses come from `controllers` in the client configuration"
    } else if reasons.contains("refused") {
        "nothing listens there: start it with foreweave-controller run --config FILE, or correct `controllers` in the \
         client configuration"
    } else {
        "check that the host is up and that a firewall lets its port through; the addresses come from `controllers` in \
         the client configuration"
    };
    hint.into()
}

/// Whether the connection broke, as opposed to a controller that answered. Only statuses that were made on this side
/// have a source.
fn broken(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

fn failure(status: &Status, controllers: &[String]) -> Failure {
    let Some(source) = std::error::Error::source(status) else {
        return Failure::Refused { refusal: convert::refusal_of(status), option: None };
    };
    let why = chain(source);
    let tried: Vec<_> = controllers.iter().map(|address| (address.clone(), why.clone())).collect();
    Failure::Unreachable { hint: hint_for(&tried), tried }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_for_no_connection_has_its_way_out() {
        for (why, word) in [
            ("tcp connect error: Connection refused (os error 111)", "foreweave-controller run"),
            ("invalid peer certificate: UnknownIssuer", "admin.toml"),
            (
                "error reading a body from connection: peer closed connection without sending TLS close_notify",
                "broke",
            ),
            ("dns error: failed to lookup address information", "not known here"),
            ("deadline has elapsed", "firewall"),
        ] {
            let hint = hint_for(&[("c.example:7447".into(), why.into())]);
            assert!(hint.contains(word), "{why}: {hint}");
        }
    }

    #[test]
    fn a_plain_status_becomes_a_failure_with_its_exit_code() {
        let code = |status: Status| failure(&status, &["a:1".into()]).exit_code();
        assert_eq!(code(Status::not_found("x")), 1);
        assert_eq!(code(Status::permission_denied("x")), 4);
        assert_eq!(code(Status::unauthenticated("x")), 4);
        assert_eq!(code(Status::unavailable("x")), 3);
        assert_eq!(code(Status::internal("x")), 1);
    }
}
