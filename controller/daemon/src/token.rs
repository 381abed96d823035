//! One-time enrolment tokens: text that carries everything a new host needs to join.
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proto_model::{Name, NodeName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MARK: &str = "fw1.";

/// What a token says. Only the hash of its secret is kept by the controller.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub region: Name,
    pub node: NodeName,
    /// 32 random bytes, base64url.
    secret: String,
    /// DER of the authority's certificate, base64.
    authority: String,
    /// `host:port`.
    pub controllers: Vec<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("region", &self.region)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// Text that is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an enrolment token: {0}; `foreweave node add NAME` prints one, which begins with {MARK}"
)]
pub struct NotAToken(&'static str);

impl Token {
    pub fn new(
        region: Name,
        node: NodeName,
        secret: [u8; 32],
        authority: &[u8],
        controllers: Vec<String>,
    ) -> Self {
        let secret = URL_SAFE_NO_PAD.encode(secret);
        Self { region, node, secret, authority: STANDARD.encode(authority), controllers }
    }

    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let body = text.trim().strip_prefix(MARK).ok_or(NotAToken("it begins otherwise"))?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| NotAToken("its text is not base64url"))?;
        let token: Self =
            serde_json::from_slice(&json).map_err(|_| NotAToken("a part of it is missing or wrong"))?;
        match URL_SAFE_NO_PAD.decode(&token.secret) {
            Ok(secret) if secret.len() == 32 => Ok(token),
            Ok(_) | Err(_) => Err(NotAToken("its secret is not 32 bytes")),
        }
    }

    /// SHA-256 of the secret: what the controller keeps.
    pub fn hash(&self) -> [u8; 32] {
        hash(&URL_SAFE_NO_PAD.decode(&self.secret).unwrap_or_default())
    }
}

pub fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| std::fmt::Error)?;
        write!(f, "{MARK}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_keeps_its_secret_to_itself() {
        let secret = [7; 32];
        let name = |text: &str| text.parse().expect("name");
        let token = Token::new(name("local"), NodeName(name("a")), secret, b"der", vec!["h:7447".into()]);
        let read = Token::parse(&token.to_string()).expect("token");
        assert_eq!(read, token);
        assert_eq!(read.hash(), hash(&secret));
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn text_that_is_no_token_says_why() {
        for bad in ["", "fw1.", "fw1.%%%", "fw2.abc", "fw1.e30", "fw1.eyJyZWdpb24iOiJhIn0"] {
            assert!(Token::parse(bad).expect_err(bad).to_string().contains("node add"), "{bad}");
        }
    }
}
