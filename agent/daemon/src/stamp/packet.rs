//! Requests and answers of STAMP (RFC 8762) in both modes, as bytes.
use ebpf_abi::probe;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of the unauthenticated packets, request and answer (RFC 8762 §4.2.1, §4.3.1) …
const OPEN: usize = 44;
/// … and of the authenticated ones (§4.2.2, §4.3.2).
const AUTHENTICATED: usize = 112;
/// What an unauthenticated request has at least: sequence number, timestamp, error estimate. TWAMP Light's is as short
/// (RFC 5357 §4.1.2, RFC 8762 §4.6).
const LEAST: usize = 14;
/// Bytes that the HMAC covers: the first six blocks (RFC 8762 §4.4) …
const COVERED: usize = 96;
/// … and its own, truncated from 32.
const TAG: usize = AUTHENTICATED - COVERED;

/// Z of the error estimate (RFC 8186 §2.1): the timestamp is PTPv2's, not NTP's.
const PTP: u8 = 0x40;
/// Flags of a TLV (RFC 8972 §4): not understood, malformed.
const UNRECOGNISED: u8 = 0x80;
const MALFORMED: u8 = 0x40;
/// Type 1 (RFC 8972 §4.1): only fills.
const EXTRA_PADDING: u8 = 1;
/// Seconds from NTP's epoch (1900) to 1970 (RFC 5905 §6).
const NTP_EPOCH: u64 = 2_208_988_800;

/// Shared with the session-senders that may ask in authenticated mode.
#[derive(Clone)]
pub(crate) struct Key(Hmac<Sha256>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        // A MAC of this kind takes keys of every length (RFC 2104).
        Self(Hmac::new_from_slice(bytes).unwrap_or_else(|_| unreachable!("keys of every length are taken")))
    }

    fn sign(&self, covered: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&self.0.clone().chain_update(covered).finalize().into_bytes()[..TAG]);
        tag
    }

    fn verify(&self, covered: &[u8], tag: &[u8]) -> bool {
        // In constant time.
        self.0.clone().chain_update(covered).verify_truncated_left(tag).is_ok()
    }
}

/// What of a request goes into its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    mode: Mode,
    sequence: [u8; 4],
    timestamp: [u8; 8],
    error_estimate: [u8; 2],
    pub(crate) session: [u8; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    Authenticated,
}

/// Why a request gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooShort,
    /// Authenticated, but there is no key here.
    NoKey,
    WrongKey,
}

/// When, in nanoseconds: since 1970, UTC; and what TAI is ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moments {
    pub(crate) received: u64,
    pub(crate) answered: u64,
    pub(crate) tai_ahead: u64,
}

/// # Errors
/// Why it gets no answer.
pub(crate) fn read(bytes: &[u8], key: Option<&Key>) -> Result<Request, Refusal> {
    if bytes.len() < LEAST {
        return Err(Refusal::TooShort);
    }
    if is_authenticated(bytes) {
        let key = key.ok_or(Refusal::NoKey)?;
        if !key.verify(&bytes[..COVERED], &bytes[COVERED..AUTHENTICATED]) {
            return Err(Refusal::WrongKey);
        }
        return Ok(request(Mode::Authenticated, bytes, 16));
    }
    Ok(request(Mode::Open, bytes, 4))
}

/// In authenticated mode the 12 bytes after the sequence number are zero; in the other the timestamp is there, which is
/// not, or the time would be 1900.
fn is_authenticated(bytes: &[u8]) -> bool {
    bytes.len() >= AUTHENTICATED && bytes[4..16].iter().all(|byte| *byte == 0)
}

fn request(mode: Mode, bytes: &[u8], stamp: usize) -> Request {
    Request {
        mode,
        sequence: cut(bytes, 0),
        timestamp: cut(bytes, stamp),
        error_estimate: cut(bytes, stamp + 8),
        session: cut(bytes, stamp + 10),
    }
}

/// Zeros where the packet has ended.
fn cut<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

/// Times are in the format of the request's (RFC 8762 §4.6 wants NTP's for TWAMP Light). `sequence`: the reflector's own;
/// `ttl`: that the request came with. As long as the request `asked`, but never shorter than the packet itself.
pub(crate) fn answer(
    asked: &[u8],
    request: &Request,
    moments: &Moments,
    (sequence, ttl): (u32, u8),
    key: Option<&Key>,
) -> Vec<u8> {
    let ptp = request.error_estimate[0] & PTP != 0;
    let stamp = |nanos| if ptp { self::ptp(nanos + moments.tai_ahead) } else { ntp(nanos) };
    let estimate = [if ptp { PTP } else { 0 }, 1];
    let (answered, received) = (stamp(moments.answered), stamp(moments.received));
    let zeros = [0; 15];
    // What lies between the fields is what the modes differ in.
    let (length, gaps) = match request.mode {
        Mode::Open => (OPEN, [0, 0, 0, 0, 2, 3]),
        Mode::Authenticated => (AUTHENTICATED, [12, 4, 8, 12, 6, 15]),
    };
    let fields: [&[u8]; 15] = [
        &sequence.to_be_bytes(),
        &zeros[..gaps[0]],
        &answered,
        &estimate,
        &request.session,
        &zeros[..gaps[1]],
        &received,
        &zeros[..gaps[2]],
        &request.sequence,
        &zeros[..gaps[3]],
        &request.timestamp,
        &request.error_estimate,
        &zeros[..gaps[4]],
        &[ttl],
        &zeros[..gaps[5]],
    ];
    let mut bytes = fields.concat();
    if let (Mode::Authenticated, Some(key)) = (request.mode, key) {
        let tag = key.sign(&bytes);
        bytes.extend(tag);
    }
    debug_assert_eq!(bytes.len(), length);
    let mut rest = asked.get(length..).unwrap_or_default().to_vec();
    mark(&mut rest);
    bytes.extend(rest);
    bytes
}

/// TLVs (RFC 8972 §4) go back with the word that they were not understood. They begin with the flag that a sender sets;
/// anything else is TWAMP's padding, which goes back as it is.
fn mark(mut rest: &mut [u8]) {
    if rest.first().is_none_or(|flags| flags & UNRECOGNISED == 0) {
        return;
    }
    while let Some(&[_, kind, high, low]) = rest.first_chunk() {
        let end = 4 + usize::from(u16::from_be_bytes([high, low]));
        if end > rest.len() {
            rest[0] |= MALFORMED;
            return;
        }
        rest[0] = if kind == EXTRA_PADDING { 0 } else { UNRECOGNISED };
        rest = &mut rest[end..];
    }
}

fn ptp(nanos: u64) -> [u8; 8] {
    zerocopy::transmute!(probe::Stamp::of(nanos))
}

/// Seconds since 1900 and their binary fraction (RFC 5905 §6).
fn ntp(nanos: u64) -> [u8; 8] {
    let (seconds, rest) = (nanos / 1_000_000_000 + NTP_EPOCH, nanos % 1_000_000_000);
    let fraction = (rest << 32) / 1_000_000_000;
    (((seconds & 0xffff_ffff) << 32) | fraction).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENTS: Moments = Moments {
        received: 1_700_000_000_500_000_000,
        answered: 1_700_000_000_750_000_000,
        tai_ahead: 37_000_000_000,
    };

    fn key() -> Key {
        Key::new(b"a key of the test's own")
    }

    /// As RFC 8762 §4.2.2 and RFC 8972 §3 draw it, by hand.
    fn authenticated(sign: &Key) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 9];
        bytes.extend([0; 12]);
        bytes.extend([0x65, 0, 0, 1, 0, 0, 0, 2]);
        bytes.extend([0x40, 0x01, 0xbe, 0xef]);
        bytes.extend([0; 68]);
        bytes.extend(sign.sign(&bytes));
        assert_eq!(bytes.len(), 112);
        bytes
    }

    #[test]
    fn the_hmac_is_sha_256_cut_to_128_bits() {
        // Test case 2 of RFC 4231.
        let tag = Key::new(b"Jefe").sign(b"what do ya want for nothing?");
        let known =
            [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7];
        assert_eq!(tag, known);
    }

    #[test]
    fn an_authenticated_answer_is_laid_out_as_rfc_8762_says() {
        let asked = authenticated(&key());
        let request = read(&asked, Some(&key())).expect("the right key");
        let bytes = answer(&asked, &request, &MOMENTS, (7, 254), Some(&key()));
        let mut expected = vec![0, 0, 0, 7];
        expected.extend([0; 12]);
        expected.extend([0x65, 0x53, 0xf1, 0x25, 0x2c, 0xb4, 0x17, 0x80]); // 1 700 000 037 s TAI, 750 ms
        expected.extend([0x40, 0x01, 0xbe, 0xef]);
        expected.extend([0; 4]);
        expected.extend([0x65, 0x53, 0xf1, 0x25, 0x1d, 0xcd, 0x65, 0x00]); // 500 ms
        expected.extend([0; 8]);
        expected.extend([0, 0, 0, 9]);
        expected.extend([0; 12]);
        expected.extend([0x65, 0, 0, 1, 0, 0, 0, 2]);
        expected.extend([0x40, 0x01]);
        expected.extend([0; 6]);
        expected.push(254);
        expected.extend([0; 15]);
        expected.extend(key().sign(&expected));
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_wrong_tag_or_a_missing_key_gets_no_answer() {
        let asked = authenticated(&Key::new(b"another"));
        assert_eq!(read(&asked, Some(&key())), Err(Refusal::WrongKey));
        assert_eq!(read(&asked, None), Err(Refusal::NoKey));
        let mut changed = authenticated(&key());
        changed[20] ^= 1;
        assert_eq!(read(&changed, Some(&key())), Err(Refusal::WrongKey));
    }

    #[test]
    fn a_twamp_light_sender_is_answered_in_its_own_format_of_time() {
        let mut asked = vec![0, 0, 0, 5, 0xea, 1, 2, 3, 4, 5, 6, 7, 0x80, 0x11];
        asked.extend([0; 27]);
        let request = read(&asked, None).expect("long enough");
        let bytes = answer(&asked, &request, &MOMENTS, (1, 64), None);
        let mut expected = vec![0, 0, 0, 1];
        expected.extend([0xe8, 0xfe, 0x6f, 0x80, 0xc0, 0, 0, 0]); // 3 908 988 800 s since 1900, three quarters
        expected.extend([0, 1, 0, 0]);
        expected.extend([0xe8, 0xfe, 0x6f, 0x80, 0x80, 0, 0, 0]);
        expected.extend([0, 0, 0, 5, 0xea, 1, 2, 3, 4, 5, 6, 7, 0x80, 0x11, 0, 0, 64, 0, 0, 0]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn an_answer_is_as_long_as_its_request_and_tells_what_was_not_understood() {
        let mut asked = probe_of(0x40);
        asked.extend([0x80, 4, 0, 4, 1, 2, 3, 4]); // class of service (RFC 8972 §4.4)
        asked.extend([0x80, 1, 0, 2, 9, 9]); // extra padding
        asked.extend([0x80, 7, 0, 9, 0]); // longer than what is left
        let request = read(&asked, None).expect("long enough");
        let bytes = answer(&asked, &request, &MOMENTS, (1, 64), None);
        assert_eq!(bytes[44..52], [0x80, 4, 0, 4, 1, 2, 3, 4]);
        assert_eq!(bytes[52..58], [0, 1, 0, 2, 9, 9]);
        assert_eq!(bytes[58..], [0xc0, 7, 0, 9, 0]);
        let mut padded = probe_of(0);
        padded.extend([0x17; 40]);
        let request = read(&padded, None).expect("long enough");
        assert_eq!(answer(&padded, &request, &MOMENTS, (1, 64), None)[44..], [0x17; 40]);
    }

    fn probe_of(z: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, z, 1, 0, 3];
        bytes.extend([0; 28]);
        bytes
    }

    #[test]
    fn whatever_arrives_is_answered_or_refused() {
        for length in 0..300 {
            for byte in [0, 0x17, 0x80, 0xff] {
                let asked = vec![byte; length];
                match read(&asked, Some(&key())) {
                    Ok(request) => {
                        let bytes = answer(&asked, &request, &MOMENTS, (1, 1), Some(&key()));
                        assert_eq!(bytes.len(), length.max(OPEN));
                    }
                    Err(refusal) => assert!(length < LEAST || refusal == Refusal::WrongKey),
                }
            }
        }
    }
}
