//! Who is at the other end of a connection, as the certificate says.
use crate::authority;
use crate::server::Peer;
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::{Name, NodeName};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Status};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What a certificate of the fabric's authority can be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Node(NodeName),
    Client(Actor),
}

impl Identity {
    /// SPIFFE ID: `spiffe://REGION/node/NAME` or `spiffe://REGION/client/ROLE/NAME`.
    pub fn uri(&self, region: &Name) -> String {
        match self {
            Self::Node(name) => format!("spiffe://{region}/node/{name}"),
            Self::Client(Actor { name, role }) => format!("spiffe://{region}/client/{role}/{name}"),
        }
    }

    pub fn parse(uri: &str, region: &Name) -> Option<Self> {
        let path = uri.strip_prefix("spiffe://")?.strip_prefix(region.as_str())?.strip_prefix('/')?;
        match path.split('/').collect::<Vec<_>>()[..] {
            ["node", name] => name.parse().ok().map(Self::Node),
            ["client", role, name] => {
                Some(Self::Client(Actor { name: name.parse().ok()?, role: role.parse::<Role>().ok()? }))
            }
            _ => None,
        }
    }

    /// Of a certificate that the TLS layer has verified against the authority.
    pub fn of_certificate(der: &[u8], region: &Name) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Self::parse(uri, region),
            _ => None,
        })
    }
}

/// What the peer showed and TLS verified, its own certificate first.
fn chain<T>(request: &Request<T>) -> Option<Arc<Vec<CertificateDer<'static>>>> {
    request.extensions().get::<TlsConnectInfo<Peer>>()?.peer_certs()
}

/// UNAUTHENTICATED without a certificate of this region.
pub fn of<T>(request: &Request<T>, region: &Name) -> Result<Identity, Status> {
    let certificates = chain(request);
    let Some(leaf) = certificates.as_ref().and_then(|chain| chain.first()) else {
        return Err(Status::unauthenticated(
            "no client certificate was shown; use the certificate of a client file (foreweave --config FILE) or of an enrolled node",
        ));
    };
    Identity::of_certificate(leaf, region).ok_or_else(|| {
        Status::unauthenticated(format!(
            "the certificate is neither a client's nor a node's of the region {region}"
        ))
    })
}

/// The API client behind a request; nodes are none.
pub fn client<T>(request: &Request<T>, region: &Name) -> Result<Actor, Status> {
    match of(request, region)? {
        Identity::Client(actor) => Ok(actor),
        Identity::Node(name) => Err(Status::permission_denied(format!(
            "the certificate is the node {name}'s; this service is for clients"
        ))),
    }
}

/// Of the key that a certificate is for.
pub fn key_of_certificate(der: &[u8]) -> Option<Fingerprint> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(authority::fingerprint(certificate.public_key().raw))
}

/// The node behind a request, and the key that it showed; API clients are none.
pub fn node<T>(request: &Request<T>, region: &Name) -> Result<(NodeName, Fingerprint), Status> {
    let chain = chain(request);
    let key = chain.as_ref().and_then(|chain| chain.first()).and_then(|leaf| key_of_certificate(leaf));
    let unreadable = || Status::unauthenticated("the certificate's key cannot be read");
    match of(request, region)? {
        Identity::Node(name) => Ok((name, key.ok_or_else(unreadable)?)),
        Identity::Client(actor) => Err(Status::permission_denied(format!(
            "the certificate is the client {}'s; this service is for nodes",
            actor.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_and_nothing_else_does() {
        let region: Name = "eu-1".parse().expect("name");
        let node = Identity::Node("edge-a".parse().expect("name"));
        let client = Identity::Client(Actor { name: "ann".parse().expect("name"), role: Role::Operator });
        for identity in [node, client] {
            assert_eq!(Identity::parse(&identity.uri(&region), &region), Some(identity));
        }
        for foreign in [
            "spiffe://eu-12/node/a",
            "spiffe://eu-1/node/a/b",
            "spiffe://eu-1/node/",
            "spiffe://eu-1/client/root/a",
            "spiffe://eu-1/client/admin/A",
            "https://eu-1/node/a",
            "",
        ] {
            assert_eq!(Identity::parse(foreign, &region), None, "{foreign}");
        }
    }
}
