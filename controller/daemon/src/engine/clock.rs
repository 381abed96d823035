//! What time it is: the system's clock is read once, time passes by the monotonic one.
//!
//! A clock that is set back or forward while the controller runs neither holds up a deadline nor expires a lease.
use proto_model::Timestamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The only clock of a controller; copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Timestamp,
    since: Instant,
}

impl Clock {
    /// From the system's time of now.
    pub fn system() -> Self {
        Self::from(SystemTime::now())
    }

    pub fn from(wall: SystemTime) -> Self {
        let since_epoch = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Timestamp(nanoseconds(since_epoch)), since: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.began.0.saturating_add(nanoseconds(self.since.elapsed())))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::recorder::Recorder;
    use crate::store::Memory;
    use controller_core::fabric::Fabric;
    use controller_core::settings::Settings;
    use proto_model::Kind;
    use proto_model::access::{Actor, Role};
    use proto_model::request::{Request, Response};

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    /// Clocks as they look to a controller whose system's clock was then set forward or back by years.
    fn clocks() -> [Clock; 3] {
        let today = SystemTime::now();
        [Clock::from(UNIX_EPOCH + YEAR), Clock::from(today - YEAR), Clock::from(today + 10 * YEAR)]
    }

    #[test]
    fn time_goes_on_from_where_it_began_whatever_the_system_says() {
        for clock in clocks() {
            let copy = clock;
            let (first, second) = (clock.now(), copy.now());
            assert!(clock.began <= first && first <= second, "{clock:?}");
            assert!(second.since(clock.began) < YEAR, "{clock:?}");
        }
    }

    #[tokio::test]
    async fn tokens_and_deadlines_go_by_one_clock() {
        for clock in clocks() {
            let fabric = Fabric::restore(Settings::default(), Vec::new(), clock.now()).expect("restore");
            let (engine, handle) = Engine::new(fabric, Box::<Memory>::default(), Recorder::default(), clock);
            let engine = std::thread::spawn(move || engine.run());
            let admin = Actor { name: "admin".parse().expect("name"), role: Role::Admin };
            let made =
                |expires| Request::CreateToken { node: "a".parse().expect("name"), hash: [7; 32], expires };
            let token = made(handle.now().plus(Duration::from_millis(100)));
            assert_eq!(handle.ask(admin.clone(), token).await, Ok(Response::Done), "{clock:?}");
            // Only when its deadline was kept can the same one be made again.
            let token = made(handle.now().plus(YEAR));
            while let Err(refusal) = handle.ask(admin.clone(), token.clone()).await {
                assert_eq!(refusal.kind, Kind::AlreadyExists, "{refusal}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            handle.stop().await;
            engine.join().expect("thread").expect("engine");
        }
    }
}
