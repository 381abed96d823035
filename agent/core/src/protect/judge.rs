//! What is wrong with a path in the eyes of a group, whether the other one is better, and how to say it.
use super::Guard;
use super::cusum::borne;
use super::session::{Death, Health, Path, slower};
use proto_model::report::Way;
use proto_model::{Latency, Loss};

/// Why a path that lives is to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Lossy,
    /// Above this promised or usual round-trip time.
    Slow(Latency),
}

pub(super) fn fault(path: &Path, guard: &Guard) -> Option<Fault> {
    if path.is_lossy(guard) {
        return Some(Fault::Lossy);
    }
    path.slow(guard).map(Fault::Slow)
}

/// Whether moving from one path with a fault to another one without pays: half of the loss at most, or a fifth less
/// time.
pub(super) fn pays(fault: Fault, here: &Path, there: &Path) -> bool {
    match fault {
        Fault::Lossy => {
            let ((lost, of), (lost_there, of_there)) = (here.fates(), there.fates());
            lost > 0
                && of_there > 0
                && u64::from(lost_there) * u64::from(of) * 2 <= u64::from(lost) * u64::from(of_there)
        }
        Fault::Slow(_) => match (here.round_trip(), there.round_trip()) {
            (Some(here), Some(there)) => there.nanos() <= here.nanos() / 5 * 4,
            (None | Some(_), _) => false,
        },
    }
}

/// A way as people call it.
pub(super) fn name(way: Way) -> &'static str {
    match way {
        Way::Primary => "primary",
        Way::Backup => "backup",
    }
}

pub(super) fn of_death(death: Death) -> String {
    match death {
        Death::NoCarrier(local) => format!("the interface with {local} has no carrier"),
        Death::NoCarrierThere => "the far end says that its interface has no carrier".into(),
        Death::Silent { probes: 0, .. } => "the carrier came back, and no probe has been answered yet".into(),
        Death::Silent { probes, time } => {
            format!(
                "{probes} probes in a row have no answer, the first was sent {} ago",
                millis(time.as_nanos())
            )
        }
    }
}

pub(super) fn of_fault(fault: Fault, here: &Path, there: &Path, other: Way, guard: &Guard) -> String {
    let other = name(other);
    match fault {
        Fault::Lossy => {
            let ((lost, of), (lost_there, of_there)) = (here.fates(), there.fates());
            let allowed = Loss::from_ppm(borne(guard.max_loss));
            let less = if lost_there == 0 { "none".into() } else { format!("{lost_there} of {of_there}") };
            format!(
                "{lost} of the last {of} probes lost, at most {allowed} is allowed; the {other} lost {less}"
            )
        }
        Fault::Slow(bound) => {
            let now = time(here);
            let what = match guard.max_rtt {
                Some(_) => format!("at most {bound} is allowed"),
                None => {
                    let most = Latency::from_nanos(bound.nanos().saturating_add(slower(bound.nanos())));
                    format!("{bound} is usual and more than {most} too much")
                }
            };
            format!("{now} round trip, {what}; the {other} takes {}", time(there))
        }
    }
}

pub(super) fn of_return(primary: &Path, hold: std::time::Duration) -> String {
    let (lost, of) = primary.fates();
    let hold = hold.as_secs();
    format!(
        "the primary has been good for {hold} s: {lost} of the last {of} probes lost, {} round trip",
        time(primary)
    )
}

pub(super) fn of_silence(waited: std::time::Duration, other: Way) -> String {
    format!("no probe has been answered for {}; the {} answers", millis(waited.as_nanos()), name(other))
}

/// What is said when nothing but the other way's life is known.
pub(super) fn of_other(health: Health, other: Way) -> String {
    let other = name(other);
    match health {
        Health::Alive => format!("the {other} answers"),
        Health::Unknown { .. } => format!("the {other} has not been seen to fail"),
        Health::Dead(_) => format!("the {other} is dead too"),
    }
}

fn time(path: &Path) -> String {
    path.round_trip().map_or_else(|| "an unknown time".into(), |rtt| millis(rtt.nanos().into()))
}

fn millis(nanos: u128) -> String {
    format!("{}.{} ms", nanos / 1_000_000, nanos / 100_000 % 10)
}
