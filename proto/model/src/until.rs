//! When something ends by itself: at a time, or so long after it is accepted.
use crate::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The end of something that shall not last. Text: `for 30m`, `until 2026-11-21T12:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Until {
    /// By the clock of the host that has to end it.
    At(Timestamp),
    /// Only in requests: the controller makes a time of it.
    After(Duration),
}

impl Until {
    /// The longest that something can be limited to: 366 days.
    pub const MOST: Duration = Duration::from_secs(366 * 86_400);

    /// The time that is meant, whole seconds (rounded up), so that it reads back as it is shown.
    ///
    /// # Errors
    /// A time that has passed, or one too far away, with the numbers.
    pub fn resolve(self, now: Timestamp) -> Result<Timestamp, String> {
        let at = match self {
            Self::At(at) => at,
            Self::After(span) => now.plus(span).up_to_second(),
        };
        if at <= now {
            let ago = now.since(at).as_secs_f64();
            return Err(format!("{at} is {ago:.1} s in the past; it is {now} here"));
        }
        match at.since(now) {
            span if span > Self::MOST + Duration::from_secs(1) => Err(format!(
                "{at} is {} days away; at most 366 days are allowed, or no end at all",
                span.as_secs() / 86_400
            )),
            _ => Ok(at),
        }
    }

    /// The time, if it is one.
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::After(_) => None,
        }
    }

    /// From the two words after which it is written.
    ///
    /// # Errors
    /// Text that is neither, with an example.
    pub fn parse(word: &str, value: &str) -> Result<Self, String> {
        match word {
            "for" => span(value).map(Self::After),
            "until" => value.parse().map(Self::At),
            other => Err(format!("\"{other}\" is not for or until")),
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => write!(f, "until {}", at.rfc3339()),
            Self::After(span) => {
                let seconds = span.as_secs();
                let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
                let whole = units.into_iter().find(|(size, _)| seconds > 0 && seconds.is_multiple_of(*size));
                let (size, unit) = whole.unwrap_or((1, "s"));
                write!(f, "for {}{unit}", seconds / size)
            }
        }
    }
}

/// `30s`, `15m`, `12h`, `7d`: whole seconds, at least one.
fn span(text: &str) -> Result<Duration, String> {
    let bad = || format!("\"{text}\" is not a time from 1s to 366d; write it like 30m or 12h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(split);
    let size = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(size)).ok_or_else(bad)?;
    let span = Duration::from_secs(seconds);
    if span.is_zero() || span > Until::MOST { Err(bad()) } else { Ok(span) }
}

impl Timestamp {
    const SECOND: u64 = 1_000_000_000;

    fn up_to_second(self) -> Self {
        Self(self.0.div_ceil(Self::SECOND).saturating_mul(Self::SECOND))
    }

    /// `2026-11-21T12:00:00Z`; parts of a second are left out.
    pub fn rfc3339(self) -> String {
        self.to_string().replace(" UTC", "Z").replace(' ', "T")
    }
}

/// RFC 3339 in UTC, whole seconds: `2026-11-21T12:00:00Z`; the seconds may be left out.
impl FromStr for Timestamp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| {
            format!("\"{text}\" is not a time from 1970 to 2500; write it in UTC, like 2026-11-21T12:00:00Z")
        })
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = match time.len() {
        5 => numbers(&format!("{time}:00"), ':', [2, 2, 2])?,
        _ => numbers(time, ':', [2, 2, 2])?,
    };
    let in_range = (1970..=2500).contains(&year) && (1..=12).contains(&month) && day >= 1;
    if !in_range || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(seconds.checked_mul(Timestamp::SECOND)?))
}

fn numbers(text: &str, between: char, lengths: [usize; 3]) -> Option<[u64; 3]> {
    let parts: Vec<&str> = text.split(between).collect();
    let fits = parts.len() == 3
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()));
    let mut parsed = parts.iter().filter_map(|part| part.parse().ok());
    fits.then(|| Some([parsed.next()?, parsed.next()?, parsed.next()?]))?
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year % 400;
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    year / 400 * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_795_262_400_000_000_000);

    #[test]
    fn a_time_reads_back_as_it_is_shown() {
        assert_eq!("2026-11-21T12:00:00Z".parse(), Ok(NOON));
        assert_eq!("2026-11-21T12:00Z".parse(), Ok(NOON));
        for text in ["1970-01-01T00:00:00Z", "2028-02-29T23:59:58Z", "2100-03-01T00:00:00Z"] {
            assert_eq!(text.parse::<Timestamp>().map(Timestamp::rfc3339), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_wrong_time_is_refused_with_an_example() {
        for text in [
            "",
            "tomorrow",
            "2026-11-21",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T12:00:00+01:00",
            "1969-12-31T00:00:00Z",
            "26-11-21T12:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().expect_err(text).contains("2026-11-21T12:00:00Z"));
        }
    }

    #[test]
    fn a_span_becomes_a_time_of_whole_seconds() {
        let now = Timestamp(NOON.0 + 1);
        let until = Until::parse("for", "30m").expect("a span");
        assert_eq!(until.to_string(), "for 30m");
        assert_eq!(until.resolve(now), Ok(Timestamp(NOON.0 + 1_801 * Timestamp::SECOND)));
    }

    #[test]
    fn a_time_in_the_past_or_too_far_away_is_refused_with_its_numbers() {
        let past = Until::At(Timestamp(NOON.0 - 90 * Timestamp::SECOND)).resolve(NOON).expect_err("past");
        assert!(past.contains("90.0 s in the past") && past.contains("12:00:00"), "{past}");
        let far = Until::At(NOON.plus(Duration::from_secs(400 * 86_400))).resolve(NOON).expect_err("far");
        assert!(far.contains("400 days") && far.contains("366"), "{far}");
        for text in ["0s", "367d", "1.5h", "30", "h", "-1s"] {
            assert!(Until::parse("for", text).expect_err(text).contains("30m"));
        }
    }
}
