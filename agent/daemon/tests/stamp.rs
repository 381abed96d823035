//! The reflector in user space, asked by a sender written by hand.
use agent_daemon::config::Stamp;
use agent_daemon::stamp::Reflector;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn key_file(mode: u32) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(KEY).expect("written");
    file.write_all(b"\n").expect("written");
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).expect("a mode");
    file
}

/// On a port that the kernel chooses; it answers until the test's process ends.
fn reflector(allow: &[&str], key: Option<&tempfile::NamedTempFile>) -> SocketAddr {
    let allow = allow.iter().map(|prefix| prefix.parse().expect("a prefix")).collect();
    let config = Stamp { allow, key_file: key.map(|file| file.path().to_owned()), port: 0 };
    let (say, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let reflector = Reflector::open(&config).expect("opened");
            say.send(reflector.address().expect("bound")).expect("said");
            reflector.run().await
        })
    });
    said.recv().expect("it listens")
}

/// The answer, and the address that it came from; none after five seconds.
fn ask(socket: &UdpSocket, to: SocketAddr, request: &[u8]) -> Option<(Vec<u8>, SocketAddr)> {
    socket.send_to(request, to).expect("sent");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut bytes = [0; 4096];
    let (length, from) = socket.recv_from(&mut bytes).ok()?;
    Some((bytes[..length].to_vec(), from))
}

fn sign(bytes: &mut Vec<u8>, key: &[u8]) {
    let tag = Hmac::<Sha256>::new_from_slice(key).expect("a key").chain_update(&*bytes).finalize();
    bytes.extend_from_slice(&tag.into_bytes()[..16]);
}

fn open_request(sequence: u32, z: u8) -> Vec<u8> {
    let mut bytes = sequence.to_be_bytes().to_vec();
    bytes.extend([0x11; 8]);
    bytes.extend([z, 1, 0, 5]);
    bytes.extend([0; 28]);
    bytes
}

fn authenticated(sequence: u32, key: &[u8]) -> Vec<u8> {
    let mut bytes = sequence.to_be_bytes().to_vec();
    bytes.extend([0; 12]);
    bytes.extend([0x22; 8]);
    bytes.extend([0x40, 1, 0, 5]);
    bytes.extend([0; 68]);
    sign(&mut bytes, key);
    bytes
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

#[test]
fn both_families_get_their_answers_from_the_address_they_asked() {
    let to = reflector(&["127.0.0.0/8", "::1/128"], None);
    for (own, asked) in [("127.0.0.1", "127.0.0.77"), ("::1", "::1")] {
        let socket = UdpSocket::bind((own, 0)).expect("bound");
        socket.set_ttl(77).expect("a TTL");
        let asked = SocketAddr::new(asked.parse().expect("an address"), to.port());
        for sequence in 0..3 {
            let (answer, from) = ask(&socket, asked, &open_request(40 + sequence, 0)).expect("an answer");
            assert_eq!((answer.len(), from), (44, asked));
            assert_eq!(number(&answer), sequence, "the reflector's own number");
            assert_eq!(number(&answer[24..]), 40 + sequence);
            assert_eq!(answer[28..36], [0x11; 8], "the sender's time");
            let ttl = if asked.is_ipv4() { 77 } else { 64 };
            assert_eq!(answer[40], ttl);
        }
    }
}

#[test]
fn times_are_utc_in_ntps_format_or_tai_in_ptps_as_the_sender_has_them() {
    let to =
        SocketAddr::new("127.0.0.1".parse().expect("an address"), reflector(&["127.0.0.1"], None).port());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let leap = {
        let tai = nix::time::clock_gettime(nix::time::ClockId::CLOCK_TAI).expect("TAI");
        (tai.tv_sec() as u64).saturating_sub(now())
    };
    for (z, epoch) in [(0, 2_208_988_800), (0x40, leap)] {
        let before = now();
        let (answer, _) = ask(&socket, to, &open_request(1, z)).expect("an answer");
        let after = now();
        assert_eq!(answer[12], z);
        for at in [4, 16] {
            let seconds = u64::from(number(&answer[at..]));
            assert!((before + epoch..=after + epoch).contains(&seconds), "{seconds} for {before} to {after}");
        }
        assert!(answer[16..24] <= answer[4..12], "received before it was answered");
    }
}

#[test]
fn authenticated_requests_are_answered_with_the_same_key_and_others_not_at_all() {
    let file = key_file(0o600);
    let port = reflector(&["127.0.0.1"], Some(&file)).port();
    let to = SocketAddr::new("127.0.0.1".parse().expect("an address"), port);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    // Were the first answered, its answer would come first.
    socket.send_to(&authenticated(1, b"another key, quite another"), to).expect("sent");
    let (answer, _) = ask(&socket, to, &authenticated(2, KEY)).expect("an answer");
    assert_eq!((answer.len(), number(&answer[48..])), (112, 2));
    let mut signed = answer[..96].to_vec();
    sign(&mut signed, KEY);
    assert_eq!(signed, answer);
}

#[test]
fn whoever_is_not_allowed_gets_no_answer() {
    let port = reflector(&["127.0.0.2"], None).port();
    let to = SocketAddr::new("127.0.0.1".parse().expect("an address"), port);
    let stranger = UdpSocket::bind("127.0.0.3:0").expect("bound");
    stranger.send_to(&open_request(1, 0), to).expect("sent");
    let allowed = UdpSocket::bind("127.0.0.2:0").expect("bound");
    ask(&allowed, to, &open_request(2, 0)).expect("an answer");
    // Requests are answered in order, so the stranger's would be here.
    stranger.set_nonblocking(true).expect("set");
    assert!(stranger.recv(&mut [0; 100]).is_err());
}

#[test]
fn a_key_that_everybody_can_read_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let open = |file: &tempfile::NamedTempFile| {
        let allow = vec!["127.0.0.1".parse().expect("a prefix")];
        let config = Stamp { allow, key_file: Some(file.path().to_owned()), port: 0 };
        runtime.block_on(async { Reflector::open(&config) })
    };
    let refusal = format!("{:#}", open(&key_file(0o644)).expect_err("refused"));
    assert!(refusal.contains("open to everybody") && refusal.contains("chmod 600"), "{refusal}");
    let short = tempfile::NamedTempFile::new().expect("a file");
    let refusal = format!("{:#}", open(&short).expect_err("refused"));
    assert!(refusal.contains("holds 0 bytes; 16 to 1024"), "{refusal}");
}
