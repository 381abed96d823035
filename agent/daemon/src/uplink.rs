//! One session with a controller at a time, reopened whenever it ends, and the certificate renewed in time.
use crate::identity::{Identity, chain};
use anyhow::{Context, Result, anyhow};
use proto_model::desired::Tell;
use proto_wire::v1;
use proto_wire::v1::agents_client::AgentsClient;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tracing::{info, warn};

/// What happens on it.
#[derive(Debug)]
pub enum Event {
    /// Speak first.
    Connected {
        session: u64,
        line: Line,
    },
    Told {
        session: u64,
        tell: Tell,
    },
    Disconnected {
        session: u64,
    },
}

/// The way to speak to the controller. Dropping it ends the session.
#[derive(Debug)]
pub struct Line {
    say: mpsc::Sender<v1::Say>,
    _end: oneshot::Sender<()>,
}

impl Line {
    /// Whether so much waits that only what must be said should be.
    pub fn is_busy(&self) -> bool {
        self.say.capacity() < WAITING * 3 / 4
    }

    /// False: the controller does not read, or the session is over.
    pub fn say(&self, say: v1::Say) -> bool {
        self.say.try_send(say).is_ok()
    }
}

/// The other end of a [`Line`].
struct Mouth {
    said: mpsc::Receiver<v1::Say>,
    ended: oneshot::Receiver<()>,
}

/// Messages to the controller that wait. An agent says one thing per second or so.
const WAITING: usize = 256;
/// The most bytes of one message. The whole desired state of a host with 10,000 circuits has about 5 MiB.
const MESSAGE: usize = 64 << 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(15);
/// A session that lasted this long was a good one: the next attempt starts over with short waits.
const LASTING: Duration = Duration::from_secs(10);
/// How long the controller may take to answer a new session.
const ANSWER: Duration = Duration::from_secs(10);
/// A renewal that failed is tried again after this long.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Opens session after session; ends when nobody listens any more.
pub async fn run(mut identity: Identity, state: PathBuf, events: mpsc::Sender<Event>) -> Result<()> {
    let mut backoff = Backoff::default();
    for session in 1u64.. {
        let turn = usize::try_from(session - 1)? % identity.controllers.len().max(1);
        let controller =
            identity.controllers.get(turn).context("the identity names no controller; enrol again")?.clone();
        let started = Instant::now();
        let outcome = one(&mut identity, &state, &controller, session, &events).await;
        if events.is_closed() {
            return Ok(());
        }
        if started.elapsed() >= LASTING {
            backoff = Backoff::default();
        }
        let wait = backoff.next(chance()?);
        match outcome {
            Ok(()) => info!(%controller, session, again_in = ?wait, "session ended"),
            Err(error) => {
                warn!(%controller, session, again_in = ?wait, error = %format!("{error:#}"), "no session")
            }
        }
        metrics::counter!("foreweave_agent_sessions_ended_total").increment(1);
        sleep(wait).await;
    }
    Ok(())
}

async fn one(
    identity: &mut Identity,
    state: &Path,
    controller: &str,
    session: u64,
    events: &mpsc::Sender<Event>,
) -> Result<()> {
    let channel =
        identity.endpoint(controller)?.connect().await.map_err(|error| anyhow!("{}", chain(&error)))?;
    let (say, said) = mpsc::channel(WAITING);
    let (end, ended) = oneshot::channel();
    // The controller answers after the first words only, so they must be on their way before its answer is awaited.
    events.send(Event::Connected { session, line: Line { say, _end: end } }).await?;
    info!(%controller, session, node = %identity.node, "connected");
    let outcome = listen(identity, state, session, channel, Mouth { said, ended }, events).await;
    // Closed only when the agent stops.
    let _ = events.send(Event::Disconnected { session }).await;
    outcome
}

async fn listen(
    identity: &mut Identity,
    state: &Path,
    session: u64,
    channel: Channel,
    mut mouth: Mouth,
    events: &mpsc::Sender<Event>,
) -> Result<()> {
    let mut client = AgentsClient::new(channel.clone()).max_decoding_message_size(MESSAGE);
    let opening = client.session(ReceiverStream::new(mouth.said));
    let answer = tokio::time::timeout(ANSWER, opening).await.context("no answer within 10 s")?;
    let mut tells = answer.map_err(|status| refused(&status))?.into_inner();
    let mut renewal = Instant::now() + until(identity.renewal());
    loop {
        tokio::select! {
            told = next(&mut tells) => match told? {
                None => return Ok(()),
                Some(tell) => events.send(Event::Told { session, tell }).await?,
            },
            () = sleep_until(renewal) => {
                renewal = renew(identity, state, channel.clone()).await;
            }
            // Dropped, never sent.
            _ = &mut mouth.ended => return Ok(()),
            () = events.closed() => return Ok(()),
        }
    }
}

/// A malformed message ends the session: whatever follows it could not be trusted to fit.
async fn next(tells: &mut Streaming<v1::Tell>) -> Result<Option<Tell>> {
    let Some(tell) = tells.message().await.map_err(|status| refused(&status))? else { return Ok(None) };
    Tell::try_from(tell).map(Some).context("the controller sent something malformed")
}

fn refused(status: &tonic::Status) -> anyhow::Error {
    match status.code() {
        Code::PermissionDenied => {
            anyhow!("the controller does not accept this node: {} (removed? enrol again)", status.message())
        }
        code => anyhow!("{code}: {}", status.message()),
    }
}

/// When to try the next time.
async fn renew(identity: &mut Identity, state: &Path, channel: Channel) -> Instant {
    let outcome = match identity.renew(channel).await {
        Ok(renewed) => renewed.store(state).map(|()| renewed),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(renewed) => {
            info!(next = ?until(renewed.renewal()), "certificate renewed");
            *identity = renewed;
            // Never at once: a certificate that is old on arrival must not become a busy loop.
            Instant::now() + until(identity.renewal()).max(RENEW_AGAIN)
        }
        Err(error) => {
            warn!(error = %format!("{error:#}"), again_in = ?RENEW_AGAIN, "certificate not renewed");
            Instant::now() + RENEW_AGAIN
        }
    }
}

fn until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Between 0 and 1.
fn chance() -> Result<f64> {
    let number = getrandom::u32().map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(f64::from(number) / f64::from(u32::MAX))
}

/// Waits that double, each shortened by up to a half at random, so that a fleet does not return in step.
#[derive(Debug, Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    fn next(&mut self, chance: f64) -> Duration {
        let wait = BACKOFF_FIRST.saturating_mul(1 << self.attempts.min(16)).min(BACKOFF_MOST);
        self.attempts = self.attempts.saturating_add(1);
        wait.mul_f64(1.0 - chance / 2.0).max(BACKOFF_FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_100_ms_to_15_s_and_stay() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next(0.0)).collect();
        assert_eq!(waits[0], BACKOFF_FIRST);
        assert!(waits.is_sorted());
        assert_eq!(waits[39], BACKOFF_MOST);
    }

    #[test]
    fn chance_spreads_the_waits_within_their_bounds() {
        for chance in [0.0, 0.3, 1.0] {
            let mut backoff = Backoff::default();
            for _ in 0..100 {
                let wait = backoff.next(chance);
                assert!((BACKOFF_FIRST..=BACKOFF_MOST).contains(&wait), "{wait:?}");
            }
        }
    }
}
