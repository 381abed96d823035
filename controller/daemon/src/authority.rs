//! The region's certificate authority: made once, signs hosts, clients and the controller itself.
use crate::files;
use crate::identity::Identity;
use anyhow::{Context, Result, bail, ensure};
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::{Name, NodeName};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::Path;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// The name that clients and agents ask the server's certificate for, whatever its address is.
pub const SERVER_NAME: &str = "controller.foreweave";
const DIRECTORY: &str = "authority";
const YEAR: Duration = Duration::days(365);
/// Clocks of hosts may be behind by so much.
const SKEW: Duration = Duration::hours(1);

pub struct Authority {
    region: Name,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("region", &self.region).finish_non_exhaustive()
    }
}

/// A certificate with its private key, as PEM.
#[derive(Clone)]
pub struct Credentials {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Authority {
    /// Loads the authority out of the directory `state`, or makes it there: a whole one or none, whenever it is cut off.
    pub fn open(state: &Path, region: &Name) -> Result<Self> {
        let directory = state.join(DIRECTORY);
        if !directory.exists() {
            make(state, region)
                .with_context(|| format!("{}: cannot make the authority", directory.display()))?;
        }
        Self::load(&directory, region)
            .with_context(|| format!("{}: is damaged; restore it from a backup", directory.display()))
    }

    fn load(directory: &Path, region: &Name) -> Result<Self> {
        let key = files::read_text(&directory.join("key.pem"))?;
        let pem = files::read_text(&directory.join("certificate.pem"))?;
        let key = KeyPair::from_pem(&key).context("key.pem: is not a private key in PEM")?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|why| anyhow::anyhow!("certificate.pem: is not a certificate in PEM: {why}"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|why| anyhow::anyhow!("certificate.pem: is not a certificate: {why}"))?;
        ensure!(
            parsed.public_key().raw == key.subject_public_key_info(),
            "key.pem and certificate.pem do not belong together"
        );
        let subject = parsed.subject().iter_organization().next().and_then(|name| name.as_str().ok());
        if subject != Some(region.as_str()) {
            bail!("it is the authority of the region {subject:?}, the configuration says \"{region}\"");
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { region: region.clone(), issuer, certificate: certificate.clone(), pem })
    }

    pub fn region(&self) -> &Name {
        &self.region
    }
    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }
    /// The authority's certificate.
    pub fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// A new key and certificate for this controller's port; made at every start, never stored.
    pub fn server(&self, hosts: &[String]) -> Result<Credentials> {
        let mut params = leaf(SERVER_NAME, YEAR * 5, ExtendedKeyUsagePurpose::ServerAuth);
        let names = [SERVER_NAME, "localhost", "127.0.0.1", "::1"]
            .into_iter()
            .chain(hosts.iter().map(String::as_str));
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.try_into()?),
            });
        }
        self.credentials(&params)
    }

    /// A new key and certificate for an API client; the key is not kept.
    pub fn client(&self, name: &Name, role: Role, years: u8) -> Result<Credentials> {
        let identity = Identity::Client(Actor { name: name.clone(), role });
        self.credentials(&self.params(&identity, name.as_str(), YEAR * i32::from(years))?)
    }

    /// Checks a host's signing request: its signature proves that the host has the key.
    pub fn check_request(&self, der: &[u8]) -> Result<Signable> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der));
        let key = request.context("is not the DER of a PKCS#10 request with a valid signature")?.public_key;
        let allowed = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        ensure!(
            allowed.contains(&key.algorithm()),
            "its key is none of ECDSA P-256, ECDSA P-384 and Ed25519"
        );
        Ok(Signable(key))
    }

    /// One year's certificate for a host, followed by the authority's.
    pub fn node(&self, name: &NodeName, key: &Signable) -> Result<String> {
        let params = self.params(&Identity::Node(name.clone()), name.as_str(), YEAR)?;
        let certificate = params.signed_by(&key.0, &self.issuer).context("cannot sign")?;
        Ok(format!("{}{}", certificate.pem(), self.pem))
    }

    fn params(&self, identity: &Identity, name: &str, validity: Duration) -> Result<CertificateParams> {
        let mut params = leaf(name, validity, ExtendedKeyUsagePurpose::ClientAuth);
        params.subject_alt_names.push(SanType::URI(identity.uri(&self.region).try_into()?));
        Ok(params)
    }

    fn credentials(&self, params: &CertificateParams) -> Result<Credentials> {
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("cannot sign")?;
        Ok(Credentials { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The public key of a request that was signed with its private key.
#[derive(Debug)]
pub struct Signable(rcgen::PublicKey);

impl Signable {
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.0.subject_public_key_info())
    }
}

/// Of the key that a signing request claims; whether its sender has that key, only the signature proves.
pub fn key_of_request(der: &[u8]) -> Result<Fingerprint> {
    let (rest, request) =
        X509CertificationRequest::from_der(der).context("is not the DER of a PKCS#10 request")?;
    ensure!(rest.is_empty(), "{} bytes follow the PKCS#10 request", rest.len());
    Ok(fingerprint(request.certification_request_info.subject_pki.raw))
}

/// Of a SubjectPublicKeyInfo in DER.
pub fn fingerprint(key: &[u8]) -> Fingerprint {
    Fingerprint(Sha256::digest(key).into())
}

fn leaf(name: &str, validity: Duration, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = dated(name, validity);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn dated(name: &str, validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SKEW;
    params.not_after = now + validity;
    params
}

/// Both files are written and synced in a directory of another name, which is then renamed.
fn make(state: &Path, region: &Name) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = dated("Foreweave authority", YEAR * 20);
    params.distinguished_name.push(DnType::OrganizationName, region.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key)?;
    let unfinished = state.join(format!("{DIRECTORY}.new"));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    files::private_directory(&unfinished)?;
    files::private_file(&unfinished.join("key.pem"), key.serialize_pem().as_bytes())?;
    files::private_file(&unfinished.join("certificate.pem"), certificate.pem().as_bytes())?;
    files::sync_directory(&unfinished)?;
    files::rename(&unfinished, &state.join(DIRECTORY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn region() -> Name {
        "local".parse().expect("name")
    }

    fn fault(state: &Path) -> String {
        format!("{:#}", Authority::open(state, &region()).expect_err("damaged"))
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let state = tempfile::tempdir().expect("tempdir");
        let first = Authority::open(state.path(), &region()).expect("first start");
        let second = Authority::open(state.path(), &region()).expect("second start");
        assert_eq!(first.pem(), second.pem());
        let mode =
            std::fs::metadata(state.path().join("authority/key.pem")).expect("key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_cut_off_first_start_is_repaired_by_the_next() {
        let state = tempfile::tempdir().expect("tempdir");
        let unfinished = state.path().join("authority.new");
        std::fs::create_dir(&unfinished).expect("mkdir");
        std::fs::write(unfinished.join("key.pem"), "-----BEGIN").expect("half a key");
        Authority::open(state.path(), &region()).expect("repaired");
        assert!(!unfinished.exists());
    }

    #[test]
    fn damage_is_named() {
        let state = tempfile::tempdir().expect("tempdir");
        Authority::open(state.path(), &region()).expect("first start");
        let key = state.path().join("authority/key.pem");
        let certificate = state.path().join("authority/certificate.pem");
        let (whole_key, whole_certificate) =
            (std::fs::read(&key).expect("key"), std::fs::read(&certificate).expect("certificate"));

        std::fs::write(&key, &whole_key[..40]).expect("write");
        assert!(fault(state.path()).contains("key.pem"), "{}", fault(state.path()));
        std::fs::remove_file(&key).expect("remove");
        assert!(fault(state.path()).contains("key.pem"));
        std::fs::write(&key, KeyPair::generate().expect("key").serialize_pem()).expect("write");
        assert!(fault(state.path()).contains("do not belong together"));
        std::fs::write(&key, whole_key).expect("write");
        std::fs::write(&certificate, &whole_certificate[..60]).expect("write");
        assert!(fault(state.path()).contains("certificate.pem"));
        std::fs::write(&certificate, whole_certificate).expect("write");
        let other = Authority::open(state.path(), &"other".parse().expect("name")).expect_err("region");
        assert!(format!("{other:#}").contains("other"));
    }

    #[test]
    fn a_signing_request_gives_a_certificate_for_the_node_of_the_token_only() {
        let state = tempfile::tempdir().expect("tempdir");
        let authority = Authority::open(state.path(), &region()).expect("authority");
        let key = KeyPair::generate().expect("key");
        let mut wish = CertificateParams::default();
        wish.subject_alt_names =
            vec![SanType::URI("spiffe://local/client/admin/eve".try_into().expect("uri"))];
        let request = wish.serialize_request(&key).expect("request");
        let signable = authority.check_request(request.der()).expect("signable");
        assert_eq!(key_of_request(request.der()).expect("key"), signable.fingerprint());
        let chain = authority.node(&"edge-a".parse().expect("name"), &signable).expect("chain");
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).expect("leaf");
        let identity = Identity::of_certificate(&leaf, &region());
        assert_eq!(identity, Some(Identity::Node("edge-a".parse().expect("name"))));
        assert_eq!(crate::identity::key_of_certificate(&leaf), Some(signable.fingerprint()));
        let mut forged = request.der().to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(authority.check_request(&forged).is_err());
        assert!(authority.check_request(b"nonsense").is_err());
        assert!(key_of_request(b"nonsense").is_err());
    }
}
