//! The keys by which the two ends of an encrypted circuit know each other (WireGuard).
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Bytes that encryption takes from each packet: IPv4 and UDP around the message (28), and the message's own header and
/// tag (32).
pub const OVERHEAD: u16 = 20 + 8 + 16 + 16;

/// Keys of one node that are accepted at once: the present one, and the one before it.
pub const KEYS: usize = 2;

/// The public half of a host's encryption key (X25519). The private half never leaves the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SealKey(pub [u8; 32]);

/// A text that is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a public key (32 bytes as base64, as `wg pubkey` prints them)")]
pub struct NotAKey(String);

impl fmt::Display for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for SealKey {
    type Err = NotAKey;
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| NotAKey(text.chars().take(64).collect()))
    }
}

impl From<SealKey> for String {
    fn from(key: SealKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for SealKey {
    type Error = NotAKey;
    fn try_from(text: String) -> Result<Self, NotAKey> {
        text.parse()
    }
}

/// That a circuit's packets are encrypted between its two hosts, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Of the host at the other end, the newest first; 1 to [`KEYS`].
    pub keys: Vec<SealKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_wireguard_writes_it() {
        let key = SealKey([7; 32]);
        let text = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
        let refusal = "BwcH".parse::<SealKey>().expect_err("too short");
        assert!(refusal.to_string().contains("32 bytes as base64"), "{refusal}");
    }
}
