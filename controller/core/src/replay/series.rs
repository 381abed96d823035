//! Reads recorded series: a table of every node's samples to every other, step by step.
//!
//! ```text
//! step,src,a,b,c
//! 0,a,,10.5,20
//! 0,b,10.4,,7
//! 1,a,,11,
//! ```
//!
//! The first column may say how long a step is, in seconds: `step=15.7s,src,a,b,c`. One line per step and source, one column per destination; an empty cell is a missing sample, and so is a line that is
//! not there. A step that is not there is a frame without samples.
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use thiserror::Error;

/// More nodes make tables that do not fit (a frame has nodes² samples of 4 bytes).
pub const MOST_NODES: usize = 2_000;
/// Steps may be left out, but not so many in a row: that is a time stamp in the wrong column.
pub const MOST_STEPS_LEFT_OUT: u64 = 10_000;
/// All samples of a series, 4 bytes each.
pub const MOST_SAMPLES: usize = 500_000_000;
/// How long a step may be.
pub const STEPS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Recorded samples of all links between some nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub nodes: Vec<String>,
    /// Between two frames, where the series says so.
    pub step: Option<Duration>,
    /// One per step; by `source * nodes + destination`, NaN where missing.
    pub frames: Vec<Vec<f32>>,
}

/// Where a text is not a series, and what would be; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {what}")]
pub struct Malformed {
    pub line: usize,
    /// The cell in its line.
    pub column: usize,
    pub what: String,
}

fn malformed(line: usize, column: usize, what: impl Into<String>) -> Malformed {
    Malformed { line, column, what: what.into() }
}

impl Series {
    /// # Errors
    /// The first place at which the text is no series.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let (_, header) = lines.next().ok_or_else(|| malformed(1, 1, NO_HEADER))?;
        let (step, nodes) = header_of(header)?;
        let index = nodes.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
        let mut reader =
            Reader { nodes: nodes.len(), index, step: None, given: Vec::new(), frames: Vec::new() };
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            reader.line(number, line)?;
        }
        let frames = reader.frames;
        if frames.is_empty() {
            return Err(malformed(
                2,
                1,
                "there is no sample: after the header comes one line per step and source",
            ));
        }
        Ok(Self { nodes, step, frames })
    }
}

const NO_HEADER: &str = "the first line names the columns: step,src, and then every node";

fn header_of(line: &str) -> Result<(Option<Duration>, Vec<String>), Malformed> {
    let mut cells = line.split(',').map(str::trim);
    let (Some(first), Some("src" | "source")) = (cells.next(), cells.next()) else {
        return Err(malformed(1, 1, NO_HEADER));
    };
    let step = step_of(first)?;
    let mut nodes: Vec<String> = Vec::new();
    for (position, name) in cells.enumerate() {
        let column = position + 3;
        if name.is_empty() {
            return Err(malformed(1, column, "a node has no name"));
        }
        if nodes.iter().any(|other| other == name) {
            return Err(malformed(1, column, format!("{name} is there twice")));
        }
        nodes.push(name.to_owned());
    }
    if !(2..=MOST_NODES).contains(&nodes.len()) {
        let what = format!("{} nodes; from 2 to {MOST_NODES} can be compared", nodes.len());
        return Err(malformed(1, 3, what));
    }
    Ok((step, nodes))
}

/// `step`, or with its length.
fn step_of(cell: &str) -> Result<Option<Duration>, Malformed> {
    let said = cell.strip_prefix("step").ok_or_else(|| malformed(1, 1, NO_HEADER))?;
    if said.is_empty() {
        return Ok(None);
    }
    let seconds = said.strip_prefix('=').and_then(|said| said.strip_suffix('s')?.parse::<f64>().ok());
    let step = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    step.filter(|step| STEPS.contains(step)).map(Some).ok_or_else(|| {
        let what =
            format!("\"{cell}\" is no step: it may be from 1 s to a day long, in seconds, as in step=15.7s");
        malformed(1, 1, what)
    })
}

struct Reader<'a> {
    nodes: usize,
    index: BTreeMap<&'a str, usize>,
    /// The step that is being read.
    step: Option<u64>,
    /// Its sources that were there already.
    given: Vec<bool>,
    frames: Vec<Vec<f32>>,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Malformed> {
        let mut cells = line.split(',').map(str::trim);
        let step = cells.next().unwrap_or_default();
        let step =
            step.parse().map_err(|_| malformed(number, 1, format!("\"{step}\" is no step: 0, 1, 2, …")))?;
        self.turn_to(number, step)?;
        let source = cells.next().unwrap_or_default();
        let from = *self
            .index
            .get(source)
            .ok_or_else(|| malformed(number, 2, format!("\"{source}\" is no node of the header")))?;
        if std::mem::replace(&mut self.given[from], true) {
            return Err(malformed(number, 2, format!("{source} is there twice in step {step}")));
        }
        let mut count = 0;
        for cell in cells {
            if count < self.nodes {
                self.sample(number, from, count, cell)?;
            }
            count += 1;
        }
        if count != self.nodes {
            let what = format!("{count} samples; the header names {} nodes", self.nodes);
            return Err(malformed(number, 3, what));
        }
        Ok(())
    }

    fn turn_to(&mut self, number: usize, step: u64) -> Result<(), Malformed> {
        let left_out = match self.step {
            Some(present) if present == step => return Ok(()),
            Some(present) if step < present => {
                let what = format!("step {step} comes after step {present}; steps are in order");
                return Err(malformed(number, 1, what));
            }
            Some(present) => step - present - 1,
            None => 0,
        };
        if left_out > MOST_STEPS_LEFT_OUT {
            let what = format!(
                "{left_out} steps are left out, at most {MOST_STEPS_LEFT_OUT} may be; steps are numbers, not times"
            );
            return Err(malformed(number, 1, what));
        }
        let frames = self.frames.len() + left_out as usize + 1;
        if frames.saturating_mul(self.nodes * self.nodes) > MOST_SAMPLES {
            let what = format!("more than {MOST_SAMPLES} samples; take a part of the series");
            return Err(malformed(number, 1, what));
        }
        self.frames.resize(frames, vec![f32::NAN; self.nodes * self.nodes]);
        self.given = vec![false; self.nodes];
        self.step = Some(step);
        Ok(())
    }

    fn sample(&mut self, line: usize, from: usize, to: usize, cell: &str) -> Result<(), Malformed> {
        if cell.is_empty() {
            return Ok(());
        }
        let value = cell.parse().ok().filter(|value: &f32| value.is_finite() && *value >= 0.0);
        let value = value.ok_or_else(|| {
            let what = format!("\"{cell}\" is no sample: a number from 0, or nothing where it is missing");
            malformed(line, to + 3, what)
        })?;
        if let Some(frame) = self.frames.last_mut() {
            frame[from * self.nodes + to] = value;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (usize, usize, String) {
        let Malformed { line, column, what } = Series::parse(text).expect_err(text);
        (line, column, what)
    }

    #[test]
    fn a_series_keeps_what_is_missing_missing() {
        let series =
            Series::parse("\u{feff}step,src,a,b\r\n0,a,,1.5\r\n0,b,2,\n\n3,b,4,0\n").expect("a series");
        assert_eq!((&series.nodes[..], series.step), (&["a", "b"].map(String::from)[..], None));
        assert_eq!(series.frames.len(), 4, "steps 1 and 2 have no samples");
        assert_eq!((series.frames[0][1], series.frames[0][2]), (1.5, 2.0));
        assert!(series.frames[0][0].is_nan() && series.frames[1].iter().all(|sample| sample.is_nan()));
        assert_eq!(series.frames[3][2..], [4.0, 0.0]);
    }

    #[test]
    fn a_series_may_say_how_long_its_steps_are() {
        let series = Series::parse("step=15.7s,src,a,b\n0,a,,1\n").expect("a series");
        assert_eq!(series.step, Some(Duration::from_millis(15_700)));
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        let cases = [
            ("", 1, 1, "first line"),
            ("time,a,b\n", 1, 1, "step,src"),
            ("steps,src,a,b\n", 1, 1, "step=15.7s"),
            ("step=4,src,a,b\n", 1, 1, "step=15.7s"),
            ("step=0.5s,src,a,b\n", 1, 1, "from 1 s"),
            ("step=1e9s,src,a,b\n", 1, 1, "to a day"),
            ("step=-4s,src,a,b\n", 1, 1, "to a day"),
            ("step,src,a\n0,a,1\n", 1, 3, "from 2"),
            ("step,src,a,b,a\n", 1, 5, "twice"),
            ("step,src,a,,b\n", 1, 4, "no name"),
            ("step,src,a,b\n", 2, 1, "no sample"),
            ("step,src,a,b\nx,a,,1\n", 2, 1, "\"x\" is no step"),
            ("step,src,a,b\n0,a,,1\n0,c,,1\n", 3, 2, "\"c\" is no node"),
            ("step,src,a,b\n0,a,,1\n0,a,,1\n", 3, 2, "twice in step 0"),
            ("step,src,a,b\n0,a,,fast\n", 2, 4, "\"fast\""),
            ("step,src,a,b\n0,a,,-1\n", 2, 4, "\"-1\""),
            ("step,src,a,b\n0,a,,inf\n", 2, 4, "\"inf\""),
            ("step,src,a,b\n0,a,1\n", 2, 3, "1 samples"),
            ("step,src,a,b\n0,a,1,2,3\n", 2, 3, "3 samples"),
            ("step,src,a,b\n1,a,,1\n0,a,,1\n", 3, 1, "in order"),
            ("step,src,a,b\n1,a,,1\n1700000000,a,,1\n", 3, 1, "not times"),
        ];
        for (text, line, column, part) in cases {
            let (at, cell, what) = refused(text);
            assert_eq!((at, cell), (line, column), "{text:?}: {what}");
            assert!(what.contains(part), "{text:?}: {what}");
        }
    }
}
