//! How often is probed, and what counts as dead, lossy, slow and recovered, with the reasons.
use std::time::Duration;

/// Between two probes of a path: five lost ones and a timeout are 80 ms.
pub const PROBE_EVERY: Duration = Duration::from_millis(10);
/// Paths that are probed so often; with more the distance grows, so that a host sends 10,000 path probes a second at
/// most, which costs a small part of one core.
pub const PATHS_AT_FULL_RATE: u64 = 100;
/// Between two probes of a link. They measure; they decide nothing.
pub const LINK_EVERY: Duration = Duration::from_millis(100);
/// Links that are probed so often; with more the distance grows: 1,000 link probes a second at most.
pub const LINKS_AT_FULL_RATE: u64 = 100;
/// A link probe without an answer for so long is lost.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the engine is told what links are like.
pub const REPORT_EVERY: Duration = Duration::from_secs(2);
/// A path probe is lost after twice the smoothed round-trip time and [`TIMEOUT_ROOM`], or after five quarters of what
/// the path has taken for a while within the last minute if that is more: a path that becomes slow from time to time is
/// not taken for dead each time. But not before …
pub const TIMEOUT_LEAST: Duration = Duration::from_millis(30);
pub const TIMEOUT_ROOM: Duration = Duration::from_millis(10);
/// … and at the latest after so long; this also bounds how many probes are under way: 100 for each path.
pub const TIMEOUT_MOST: Duration = Duration::from_secs(1);
/// So many probes lost in a row: dead. On a path that loses 1 % that happens by chance once in 10^10 probes …
pub const DEAD_AFTER: u32 = 5;
/// … and on one that loses more, so many that it happens once in 10^8; a path that is known to lose half of all is
/// lossy and not dead, unless it is silent for this many.
pub const DEAD_AFTER_MOST: u32 = 25;
/// A path is probed as up to so many of the circuits on it: one that is deleted, or whose far end stopped, is not taken
/// for the path.
pub const VOICES: usize = 3;
/// After so many lost probes in a row the path is asked as the other ones too, so that at [`DEAD_AFTER`] it is known
/// whether all are silent. One that is just being asked is waited for: five quarters of the smoothed round-trip time and …
pub const DOUBT_AFTER: u32 = 1;
pub const DOUBT_ROOM: Duration = Duration::from_millis(5);
/// Probes of which the fate is unknown, as one circuit: at the bound the first one is taken for lost. It is far above what
/// [`TIMEOUT_MOST`] leaves, and is reached only by a host that is stalled again and again.
pub const WAITING: usize = 256;
/// Weight of one probe in the loss that a path is known to have, beside that of its last 100: some 10 s at full rate.
pub const KNOWN_WEIGHT: f64 = 1.0 / 1024.0;
/// So many answered in a row: alive again.
pub const ALIVE_AFTER: u32 = 3;
/// A path that never answered is left after so long, if the other one answers.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// The protector was run so much later than it asked for: it was stalled, not the path. Time in which it was stalled does
/// not count for what is under way.
pub const STALL: Duration = Duration::from_millis(20);
/// Loss that a circuit without a bound of its own is taken to bear: 1 %, in millionths.
pub const LOSS_BORNE: u32 = 10_000;
/// The least loss that is judged: a bound below it is broken by three or four losses close together.
pub const LOSS_LEAST: u32 = 1_000;
/// The log likelihood ratio at which a path is lossy: by chance once in 10^8 probes (11 days at full rate) at most.
pub const EVIDENCE: f64 = 18.42;
/// Round-trip times of so many answers are judged together: the least of them must break the bound.
pub const RECENT: usize = 30;
/// Without a bound, slow is so much above the usual round-trip time, or twice of it if that is more.
pub const SLOWER: Duration = Duration::from_millis(20);
/// The usual round-trip time is the least of so many seconds …
pub const USUAL_SECONDS: u64 = 60;
/// … and stands while the path is slow, but not for ever.
pub const USUAL_KEPT: Duration = Duration::from_secs(600);
/// Addresses without a carrier that are remembered although no path begins there yet.
pub const DOWN_MOST: usize = 4_096;
/// How far ends are told of a carrier that went: at once, and again after so long each, against loss; …
pub const DEFECT_AGAIN: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(20)];
/// … at most so many messages each time, for each address of the interface: 100 paths with one other way each. Who is not
/// told finds out by probes.
pub const DEFECTS_MOST: usize = 100 * VOICES;
/// What a far end says of a path is not believed again for so long: it could say so wrongly all the time, and a path that
/// answers would be of no use when the other one dies.
pub const DEFECT_REST: Duration = Duration::from_secs(10);
/// Between two moves of a group for the sake of quality, its return to the primary included.
pub const QUALITY_EVERY: Duration = Duration::from_secs(60);
/// A way that was dead or had a fault is not moved to for the sake of quality before it has been good so many times as long
/// as that lasted, all in all: ways that take turns in being bad are not followed, and short disturbances do not count for
/// long.
pub const CALM_TIMES: u32 = 3;
/// But after so long at the latest since it was bad last.
pub const CALM: Duration = Duration::from_secs(30);
/// How long the primary must have been good before a group returns to it. Doubles up to [`HOLD_MOST`] when the primary
/// fails within [`RELAPSE`] of a return.
pub const HOLD: Duration = Duration::from_secs(30);
pub const HOLD_MOST: Duration = Duration::from_secs(600);
pub const RELAPSE: Duration = Duration::from_secs(60);
/// A group that could not leave a bad way looks again after so long.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);
