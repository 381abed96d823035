//! Refusals as gRPC statuses and back, so that nothing of what was said is lost on the way.
use super::Malformed;
use proto_model::{Kind, Refusal};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Metadata key: the field that the refusal is about, percent-encoded (RFC 3986 §2.1).
pub const FIELD_KEY: &str = "foreweave-field";
/// Metadata key: what would be accepted, percent-encoded.
pub const HINT_KEY: &str = "foreweave-hint";

/// Bytes of text in one header; peers refuse responses whose headers exceed 16 KiB in all.
const MOST_BYTES: usize = 2048;

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::invalid(malformed.field, malformed.what)
    }
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        status_of(&malformed.into())
    }
}

/// The code says what sort of refusal it is; the message is the refusal as people read it.
pub fn status_of(refusal: &Refusal) -> Status {
    let mut metadata = MetadataMap::new();
    for (key, text) in [(FIELD_KEY, &refusal.field), (HINT_KEY, &refusal.hint)] {
        if !text.is_empty()
            && let Ok(value) = MetadataValue::try_from(encoded(text))
        {
            metadata.insert(key, value);
        }
    }
    Status::with_metadata(code(refusal), cut(&refusal.to_string()), metadata)
}

fn code(refusal: &Refusal) -> Code {
    match refusal.kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        // gRPC's convention: the caller shall read again and repeat the whole of what it did.
        Kind::Precondition if refusal.field == "expected_version" => Code::Aborted,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// What a status means; also for those that other servers or the transport made.
pub fn refusal_of(status: &Status) -> Refusal {
    let detail =
        |key| status.metadata().get(key).and_then(|v| v.to_str().ok()).map(decoded).unwrap_or_default();
    let (field, hint) = (detail(FIELD_KEY), detail(HINT_KEY));
    let message = status.message();
    let what = message.strip_prefix(&format!("{field}: ")).unwrap_or(message);
    let what = what.strip_suffix(&format!(" ({hint})")).unwrap_or(what).to_owned();
    Refusal { kind: kind(status.code()), field, what, hint }
}

fn kind(code: Code) -> Kind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Kind::Invalid,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::FailedPrecondition | Code::Aborted => Kind::Precondition,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::PermissionDenied | Code::Unauthenticated => Kind::Forbidden,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Kind::Unavailable,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Kind::Internal,
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=MOST_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Printable ASCII stays; anything else, and `%`, becomes `%XX` per byte.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in cut(text).bytes() {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            plain => out.push(char::from(plain)),
        }
    }
    out
}

/// Undoes [`encoded`]; what is no valid escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%');
        let value = escaped
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_journey() {
        let refusal = Refusal {
            kind: Kind::Exhausted,
            field: "circuit.bounds.bandwidth".into(),
            what: "a–b (internet) has 340 Mbit/s free, the circuit needs 500 Mbit/s".into(),
            hint: "500 Mbit/s if latency ≤ 35 ms is allowed; 100 % of nothing".into(),
        };
        let status = status_of(&refusal);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), refusal.to_string());
        assert_eq!(refusal_of(&status), refusal);
    }

    #[test]
    fn a_stale_version_is_aborted() {
        let mut refusal = Refusal::precondition("version 3 is in force, 2 was expected");
        assert_eq!(status_of(&refusal).code(), Code::FailedPrecondition);
        refusal.field = "expected_version".into();
        assert_eq!(status_of(&refusal).code(), Code::Aborted);
        assert_eq!(refusal_of(&status_of(&refusal)), refusal);
    }

    #[test]
    fn headers_stay_small_whatever_is_refused() {
        let refusal = Refusal::invalid("é".repeat(5000), "x".repeat(100_000)).hint("\u{0}\n%".repeat(5000));
        let status = status_of(&refusal);
        assert!(status.message().len() <= MOST_BYTES);
        for key in [FIELD_KEY, HINT_KEY] {
            let value = status.metadata().get(key).expect(key);
            assert!(value.len() <= 3 * MOST_BYTES, "{}", value.len());
        }
        assert!(refusal_of(&status).field.starts_with('é'));
    }

    #[test]
    fn foreign_statuses_are_understood() {
        let refusal = refusal_of(&Status::unavailable("tcp connect error"));
        assert_eq!((refusal.kind, refusal.what.as_str()), (Kind::Unavailable, "tcp connect error"));
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
