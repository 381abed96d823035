//! Who this host is in the fabric: its key and certificate, how it gets them, and when it renews them.
use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nix::fcntl::{Flock, FlockArg};
use proto_model::{Name, NodeName};
use proto_wire::v1;
use proto_wire::v1::enrolment_client::EnrolmentClient;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};
use tracing::{info, warn};

/// Every controller's certificate is for this name, wherever it listens.
pub const SERVER_NAME: &str = "controller.foreweave";

/// Everything that lets this host speak as its node. One file, so that key and certificate always belong together.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub node: NodeName,
    pub region: Name,
    /// `host:port`, tried in turn.
    pub controllers: Vec<String>,
    /// PEM of the fabric's authority.
    pub authority: String,
    /// PEM, the node's certificate first.
    pub certificate: String,
    /// PEM of the private key.
    key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("node", &self.node)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// Name of the identity's file in the state directory.
const FILE: &str = "identity.toml";

fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

impl Identity {
    /// # Errors
    /// Not enrolled, unreadable, or damaged; and what to do.
    pub fn load(state: &Path) -> Result<Self> {
        let path = path(state);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!(
                "this host is not enrolled ({} does not exist): run `foreweave-agent enrol --token-file FILE --state {}` \
                 with a token of `foreweave node add`",
                path.display(),
                state.display()
            ),
            _ => anyhow!("cannot read {}: {error}", path.display()),
        })?;
        warn_if_readable_by_others(&path);
        let identity: Self = toml::from_str(&text)
            .map_err(|error| anyhow!("{} is damaged ({}); enrol again", path.display(), error.message()))?;
        validity(&identity.certificate)
            .with_context(|| format!("{} is damaged; enrol again", path.display()))?;
        Ok(identity)
    }

    /// Replaces the file in one step; only root, or the agent's own user, may read it.
    ///
    /// # Errors
    /// What could not be written.
    pub fn store(&self, state: &Path) -> Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)
            .with_context(|| format!("cannot make {}", state.display()))?;
        let temporary = state.join(format!(".{FILE}.{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            file.write_all(toml::to_string(self).map_err(std::io::Error::other)?.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path(state))?;
            File::open(state)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path(state).display())).inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })
    }

    /// How to reach one controller, with proof of who this is.
    ///
    /// # Errors
    /// An address that is none.
    pub fn endpoint(&self, controller: &str) -> Result<Endpoint> {
        let proof = TlsIdentity::from_pem(&self.certificate, &self.key);
        endpoint(controller, tls(&self.authority).identity(proof))
    }

    /// When two thirds of the certificate's life are over.
    pub fn renewal(&self) -> SystemTime {
        let (from, until) = validity(&self.certificate).unwrap_or((0, 0));
        UNIX_EPOCH + Duration::from_secs(from + (until.saturating_sub(from)) / 3 * 2)
    }

    /// Fetches a certificate for a new key over a connection that the old one opened.
    ///
    /// # Errors
    /// What the controller refused.
    pub async fn renew(&self, channel: Channel) -> Result<Self> {
        let (key, signing_request) = request()?;
        let answer = v1::renewal_client::RenewalClient::new(channel)
            .renew(v1::RenewRequest { signing_request })
            .await
            .map_err(|status| anyhow!("the controller refused: {}", status.message()))?
            .into_inner();
        self.with(answer, key)
    }

    fn with(&self, answer: v1::EnrolResponse, key: String) -> Result<Self> {
        if answer.node != self.node.as_str() {
            bail!("the controller sent a certificate for {}, this is {}", answer.node, self.node);
        }
        validity(&answer.certificate_chain)?;
        if answer.authority.is_empty() {
            bail!("the controller sent no authority");
        }
        Ok(Self { certificate: answer.certificate_chain, authority: answer.authority, key, ..self.clone() })
    }
}

/// Anybody who can read the key can be this host.
fn warn_if_readable_by_others(path: &Path) {
    if let Ok(meta) = path.metadata()
        && meta.permissions().mode() & 0o077 != 0
    {
        warn!(file = %path.display(), "others may read the private key: chmod 600");
    }
}

fn tls(authority: &str) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).domain_name(SERVER_NAME)
}

fn endpoint(controller: &str, tls: ClientTlsConfig) -> Result<Endpoint> {
    // A healed partition is noticed by keep-alive only: without it a channel stays dead.
    Endpoint::from_shared(format!("https://{controller}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map(|endpoint| {
            endpoint
                .connect_timeout(Duration::from_secs(5))
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(5))
                .keep_alive_while_idle(true)
        })
        .map_err(|error| anyhow!("\"{controller}\" is not the address of a controller (host:port): {error}"))
}

/// A key, and the request to certify it (PKCS#10 in DER).
fn request() -> Result<(String, Vec<u8>)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
    let request =
        CertificateParams::default().serialize_request(&key).context("cannot make a signing request")?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// Seconds since the Unix epoch from which, and until which, the first certificate holds.
fn validity(pem: &str) -> Result<(u64, u64)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).context("the certificate is not PEM")?;
    let certificate = pem.parse_x509().context("the certificate is not X.509")?;
    let validity = certificate.validity();
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    Ok((seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp())))
}

/// What a one-time token says.
#[derive(Clone, Deserialize)]
struct Token {
    region: Name,
    node: NodeName,
    /// DER, base64.
    authority: String,
    controllers: Vec<String>,
}

/// The most bytes of a token (as the wire says).
const TOKEN: usize = 8 * 1024;

impl Token {
    fn parse(text: &str) -> Result<Self> {
        let not = |why: &str| {
            anyhow!(
                "this is not an enrolment token: {why}; `foreweave node add NAME` prints one, which begins with fw1."
            )
        };
        if text.len() > TOKEN {
            return Err(not(&format!("it has {} bytes, at most {TOKEN} are allowed", text.len())));
        }
        let body = text.strip_prefix("fw1.").ok_or_else(|| not("it begins otherwise"))?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| not("its text is not base64url"))?;
        serde_json::from_slice(&json).map_err(|_| not("a part of it is missing or wrong"))
    }

    fn authority(&self) -> Result<String> {
        let der = STANDARD.decode(&self.authority).context("the token's authority is not base64")?;
        let lines: Vec<String> = STANDARD
            .encode(der)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        Ok(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
    }
}

/// What `enrol` is told.
#[derive(Clone, Debug)]
pub struct Enrolment {
    pub token: String,
    /// Instead of those in the token.
    pub controllers: Vec<String>,
    pub state: PathBuf,
    /// Enrol although there is an identity already.
    pub replace: bool,
}

/// Exchanges a one-time token for an identity, and stores it.
///
/// # Errors
/// What is wrong with the token, or why no controller took it. Nothing is stored then.
pub async fn enrol(enrolment: &Enrolment) -> Result<Identity> {
    if !enrolment.replace && path(&enrolment.state).exists() {
        let node = Identity::load(&enrolment.state)?.node;
        bail!("this host is enrolled as {node} already; --replace makes it another node");
    }
    let text = enrolment.token.trim();
    let token = Token::parse(text)?;
    let controllers = if enrolment.controllers.is_empty() {
        token.controllers.clone()
    } else {
        enrolment.controllers.clone()
    };
    if controllers.is_empty() {
        bail!("the token names no controller; name one with --controller HOST:PORT");
    }
    let authority = token.authority()?;
    let (key, signing_request) = request()?;
    let answer = ask_in_turn(&controllers, &authority, text, &signing_request).await?;
    let blank = Identity {
        node: token.node,
        region: token.region,
        controllers,
        authority,
        certificate: String::new(),
        key: String::new(),
    };
    let identity = blank.with(answer, key)?;
    identity.store(&enrolment.state)?;
    info!(node = %identity.node, region = %identity.region, "enrolled");
    Ok(identity)
}

/// The first controller that answers decides; one that is not reached is passed over.
async fn ask_in_turn(
    controllers: &[String],
    authority: &str,
    token: &str,
    signing_request: &[u8],
) -> Result<v1::EnrolResponse> {
    let mut failures = Vec::new();
    for controller in controllers {
        let channel = match endpoint(controller, tls(authority))?.connect().await {
            Ok(channel) => channel,
            Err(error) => {
                failures.push(format!("{controller}: {}", chain(&error)));
                continue;
            }
        };
        let request = v1::EnrolRequest { token: token.to_owned(), signing_request: signing_request.to_vec() };
        return match EnrolmentClient::new(channel).enrol(request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => bail!("{controller} refused: {}", status.message()),
        };
    }
    bail!("no controller was reached ({})", failures.join("; "))
}

/// An error with its causes; the outermost one of a transport says little.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Held while an agent runs: two of them would write the same maps.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

const LOCK: &str = "lock";
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

impl Lock {
    /// # Errors
    /// When another agent holds it.
    pub fn take(state: &Path) -> Result<Self> {
        let path = state.join(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let begun = Instant::now();
        let mut attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        // A killed agent takes a moment to be gone.
        while let Err((file, nix::Error::EWOULDBLOCK)) = attempt {
            if begun.elapsed() >= LOCK_PATIENCE {
                bail!("another foreweave-agent runs with the state in {}; stop it first", state.display());
            }
            std::thread::sleep(Duration::from_millis(10));
            attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        }
        let file = attempt.map_err(|(_, errno)| anyhow!("cannot lock {}: {errno}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// Removes the identity.
///
/// # Errors
/// When the file cannot be removed.
pub(crate) fn forget(state: &Path) -> Result<bool> {
    let _ = std::fs::remove_file(state.join(LOCK));
    match std::fs::remove_file(path(state)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path(state).display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("key");
        let mut params = CertificateParams::new(vec!["a".into()]).expect("params");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 31);
        let certificate = params.self_signed(&key).expect("certificate").pem();
        Identity {
            node: "a".parse().expect("name"),
            region: "local".parse().expect("name"),
            controllers: vec!["127.0.0.1:7447".into()],
            authority: certificate.clone(),
            certificate,
            key: key.serialize_pem(),
        }
    }

    #[test]
    fn an_identity_survives_its_file_which_only_its_owner_reads() {
        let state = tempfile::tempdir().expect("directory");
        let identity = identity();
        identity.store(state.path()).expect("stored");
        assert_eq!(Identity::load(state.path()).expect("loaded"), identity);
        let mode = path(state.path()).metadata().expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(state.path()).expect("directory").count(),
            1,
            "no temporary file is left"
        );
        assert!(!format!("{identity:?}").contains("PRIVATE"));
    }

    #[test]
    fn it_is_renewed_when_two_thirds_of_its_life_are_over() {
        let day = |n: u64| UNIX_EPOCH + Duration::from_secs(n * 86_400);
        let first = 18_262;
        assert_eq!(identity().renewal(), day(first + 20));
    }

    #[test]
    fn a_damaged_identity_says_what_to_do() {
        let state = tempfile::tempdir().expect("directory");
        let refusal = || format!("{:#}", Identity::load(state.path()).expect_err("must be refused"));
        assert!(refusal().contains("foreweave-agent enrol"));
        for text in ["", "node = 1", "[[["] {
            std::fs::write(path(state.path()), text).expect("written");
            assert!(refusal().contains("enrol again"), "{}", refusal());
        }
        let half = Identity { certificate: "-----BEGIN".into(), ..identity() };
        half.store(state.path()).expect("stored");
        assert!(refusal().contains("enrol again"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", "fw1.", "fw2.e30", "fw1.%%", "fw1.e30", &"fw1.".repeat(4000)] {
            let refusal = Token::parse(text).map(|_| ()).expect_err("must be refused").to_string();
            assert!(refusal.contains("foreweave node add"), "{refusal}");
        }
    }

    #[test]
    fn two_agents_never_share_a_state() {
        let state = tempfile::tempdir().expect("directory");
        let lock = Lock::take(state.path()).expect("the first one");
        let refusal = Lock::take(state.path()).map(|_| ()).expect_err("the second one").to_string();
        assert!(refusal.contains("another foreweave-agent runs"), "{refusal}");
        drop(lock);
        Lock::take(state.path()).expect("free again");
    }

    #[tokio::test]
    async fn a_host_is_not_enrolled_twice_by_accident() {
        let state = tempfile::tempdir().expect("directory");
        identity().store(state.path()).expect("stored");
        let enrolment = Enrolment {
            token: "fw1.x".into(),
            controllers: Vec::new(),
            state: state.path().to_owned(),
            replace: false,
        };
        let refusal = enrol(&enrolment).await.expect_err("must be refused").to_string();
        assert!(refusal.contains("enrolled as a already"), "{refusal}");
    }
}
