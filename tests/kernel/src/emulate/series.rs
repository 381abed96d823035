//! A recording of a link: lines of `seconds,rtt_ms,loss`, each valid until the next, repeated from the start at the end.
use std::str::FromStr;

/// Loss is a share of packets, 0 to 1; the file's round-trip time is split evenly between the directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// (from this nanosecond, one-way delay in nanoseconds, packets lost per million), in order; the first at 0.
    points: Vec<(u64, u64, u32)>,
}

impl Series {
    /// One-way delay in nanoseconds and loss per million, so many nanoseconds after the start.
    pub fn at(&self, nanos: u64) -> (u64, u32) {
        let period = self.period();
        let within = if period == 0 { 0 } else { nanos % period };
        let index = self.points.partition_point(|(from, ..)| *from <= within);
        let (_, delay, loss) = self.points[index.saturating_sub(1)];
        (delay, loss)
    }

    /// The last line lasts as long as the one before it.
    fn period(&self) -> u64 {
        match self.points[..] {
            [.., (before, ..), (last, ..)] => last + (last - before),
            _ => 0,
        }
    }
}

impl FromStr for Series {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut points: Vec<(u64, u64, u32)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with("seconds") {
                continue;
            }
            let point = point(line).map_err(|why| format!("line {}: {why}", index + 1))?;
            if points.last().is_some_and(|(before, ..)| *before >= point.0) {
                return Err(format!("line {}: the seconds must grow", index + 1));
            }
            points.push(point);
        }
        let Some(first) = points.first_mut() else { return Err("the recording has no line".into()) };
        first.0 = 0;
        Ok(Self { points })
    }
}

fn point(line: &str) -> Result<(u64, u64, u32), String> {
    let fields: Vec<&str> = line.split(',').collect();
    let [seconds, rtt, loss] = fields[..] else {
        return Err(format!("\"{line}\" is not seconds,rtt_ms,loss"));
    };
    let number = |text: &str, most: f64, what: &str| match text.trim().parse::<f64>() {
        Ok(value) if (0.0..=most).contains(&value) => Ok(value),
        _ => Err(format!("\"{text}\" is not {what} from 0 to {most}")),
    };
    let seconds = number(seconds, 1e9, "a number of seconds")?;
    let rtt = number(rtt, 60_000.0, "a round-trip time in milliseconds")?;
    let loss = number(loss, 1.0, "a share of lost packets")?;
    Ok(((seconds * 1e9) as u64, (rtt * 1e6 / 2.0) as u64, (loss * 1e6) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_played_in_steps_and_again() {
        let series: Series = "seconds,rtt_ms,loss\n0,10,0\n1,20,0.5\n2,30,0\n".parse().expect("series");
        assert_eq!(series.at(0), (5_000_000, 0));
        assert_eq!(series.at(1_999_999_999), (10_000_000, 500_000));
        assert_eq!(series.at(2_500_000_000), (15_000_000, 0));
        assert_eq!(series.at(3_000_000_000), series.at(0));
    }

    #[test]
    fn a_broken_recording_names_its_line() {
        for (text, why) in [
            ("", "no line"),
            ("0,10", "line 1"),
            ("0,10,0\n0,10,0", "line 2: the seconds must grow"),
            ("0,-1,0", "round-trip"),
            ("0,1,2", "share"),
            ("nan,1,0", "seconds"),
        ] {
            let refusal = text.parse::<Series>().expect_err(text);
            assert!(refusal.contains(why), "{refusal}");
        }
    }
}
