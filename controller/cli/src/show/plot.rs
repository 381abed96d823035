//! Charts for terminals: what was measured, what is forecast with its bands, and the bound; a panel for each path.
use super::scale::{self, Frame, amount, now_words, role};
use clap::builder::styling::{AnsiColor, Style};
use proto_model::insight::{Line, Series};
use proto_model::topology::Forecast;

/// Rows of a panel.
const ROWS: usize = 8;
/// Columns of the numbers at the left.
const LABELS: usize = 11;
const NARROWEST: usize = 40;
const WIDEST: usize = 160;

const SEEN: Style = AnsiColor::Cyan.on_default();
const AHEAD: Style = AnsiColor::Yellow.on_default();
const BEYOND: Style = AnsiColor::Red.on_default();

/// Of the terminal; 100 columns where there is none.
pub fn width() -> usize {
    comfy_table::Table::new().width().map_or(100, usize::from)
}

/// What a chart is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    mean: char,
    spread: char,
    median: char,
    likely: char,
    possible: char,
    bound: char,
    now: char,
    tick: char,
    at_most: &'static str,
}

impl Signs {
    pub const UNICODE: Self = Self {
        mean: '•',
        spread: '·',
        median: '━',
        likely: '▓',
        possible: '░',
        bound: '╌',
        now: '│',
        tick: '┤',
        at_most: "≤",
    };
    /// For terminals of other character sets.
    pub const ASCII: Self = Self {
        mean: 'o',
        spread: '.',
        median: '=',
        likely: '#',
        possible: ':',
        bound: '-',
        now: '|',
        tick: '|',
        at_most: "<=",
    };

    /// What a terminal of this locale (POSIX: `LC_ALL`, else `LC_CTYPE`, else `LANG`) shows.
    pub fn of(locale: Option<&str>) -> Self {
        let utf8 = |locale: &str| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        };
        if locale.is_none_or(utf8) { Self::UNICODE } else { Self::ASCII }
    }

    fn of_terminal() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::of(["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).as_deref())
    }
}

/// For this process's terminal.
pub fn here(series: &Series) -> String {
    of(series, width(), &Signs::of_terminal())
}

/// `width` counts columns of the whole chart.
pub fn of(series: &Series, width: usize, signs: &Signs) -> String {
    let Some(frame) = Frame::of(series) else {
        return "nothing was measured or forecast of it yet\n".into();
    };
    let columns = width.clamp(NARROWEST, WIDEST).saturating_sub(LABELS + 2);
    let panels: String =
        series.lines.iter().map(|line| panel(series, line, &frame, columns, signs)).collect();
    format!("{panels}{}", legend(series, signs))
}

fn panel(series: &Series, line: &Line, frame: &Frame, columns: usize, signs: &Signs) -> String {
    let title = format!("{}  {}  {}\n", line.path, role(line.role), now_words(series, line));
    let shown: Vec<Column> =
        (0..columns).map(|column| Column::of(series, line, frame, column, columns)).collect();
    let rows: String = (0..ROWS).map(|row| row_of(series, frame, &shown, row, signs)).collect();
    format!("{title}{rows}{}\n", axis(frame, columns))
}

/// What stands in one column: least, mean and most that was measured, or what is forecast.
enum Column {
    Nothing,
    Seen {
        least: f64,
        mean: f64,
        most: f64,
    },
    Ahead([f64; 7]),
    /// Between past and future.
    Now,
}

impl Column {
    fn of(series: &Series, line: &Line, frame: &Frame, column: usize, columns: usize) -> Self {
        let time = |column: usize| frame.begins + frame.lasts() * column as f64 / columns as f64;
        let (from, to) = (time(column), time(column + 1));
        if from <= 0.0 && to > 0.0 {
            return Self::Now;
        }
        if from > 0.0 {
            return ahead(line, f64::midpoint(from, to)).map_or(Self::Nothing, Self::Ahead);
        }
        let step = series.step.as_secs_f64();
        let within = |seconds: f64| seconds < to && seconds + step > from;
        let points = line.points.iter().filter(|point| within(Frame::seconds(series, point.at)));
        let (mut least, mut most, mut sum, mut count) = (f64::MAX, 0.0_f64, 0.0, 0.0);
        for point in points {
            (least, most) = (least.min(point.least as f64), most.max(point.most as f64));
            (sum, count) = (sum + point.mean as f64, count + 1.0);
        }
        if count == 0.0 { Self::Nothing } else { Self::Seen { least, mean: sum / count, most } }
    }
}

/// So many seconds ahead: between two horizons a straight line, before the first one like it.
fn ahead(line: &Line, seconds: f64) -> Option<[f64; 7]> {
    let horizon = |forecast: &Forecast| forecast.horizon.as_secs_f64();
    let after = line.forecasts.iter().position(|forecast| horizon(forecast) >= seconds)?;
    let later = line.forecasts.get(after)?;
    let sooner = after.checked_sub(1).and_then(|before| line.forecasts.get(before)).unwrap_or(later);
    let width = horizon(later) - horizon(sooner);
    let share = if width > 0.0 { (seconds - horizon(sooner)) / width } else { 1.0 };
    let at = |index: usize| {
        let (from, to) = (sooner.quantiles[index] as f64, later.quantiles[index] as f64);
        from + share * (to - from)
    };
    Some(std::array::from_fn(at))
}

fn row_of(series: &Series, frame: &Frame, columns: &[Column], row: usize, signs: &Signs) -> String {
    let height = frame.height() / ROWS as f64;
    let (top, bottom) = (frame.high - height * row as f64, frame.high - height * (row + 1) as f64);
    let crosses = |low: f64, high: f64| low < top && high >= bottom || low == top && row == 0;
    let bound = series.bound.map(|bound| bound as f64).filter(|bound| crosses(*bound, *bound));
    let label = match bound {
        Some(bound) => format!("{} {}", signs.at_most, amount(series.quantity, bound)),
        None => amount(series.quantity, f64::midpoint(top, bottom)),
    };
    let beyond = |value: f64| series.bound.is_some_and(|bound| value > bound as f64);
    let cell = |column: &Column| match column {
        Column::Seen { mean, .. } if crosses(*mean, *mean) => {
            (if beyond(*mean) { BEYOND } else { SEEN }, signs.mean)
        }
        Column::Seen { least, most, .. } if crosses(*least, *most) => (SEEN, signs.spread),
        Column::Ahead(at) if crosses(at[3], at[3]) => {
            (if beyond(at[3]) { BEYOND } else { AHEAD }, signs.median)
        }
        Column::Ahead(at) if crosses(at[2], at[4]) => (AHEAD, signs.likely),
        Column::Ahead(at) if crosses(at[1], at[5]) => {
            (if beyond(top) { BEYOND } else { AHEAD }, signs.possible)
        }
        Column::Now => (Style::new(), signs.now),
        _ if bound.is_some() => (BEYOND, signs.bound),
        Column::Nothing | Column::Seen { .. } | Column::Ahead(_) => (Style::new(), ' '),
    };
    format!("{label:>LABELS$} {}{}\n", signs.tick, coloured(columns.iter().map(cell)))
}

/// Each run of one style in its codes.
fn coloured(cells: impl Iterator<Item = (Style, char)>) -> String {
    let (mut text, mut current) = (String::new(), Style::new());
    for (style, sign) in cells {
        if style != current {
            text += &format!("{current:#}{style}");
            current = style;
        }
        text.push(sign);
    }
    // The spaces at the end of a row are of no use.
    let text = format!("{text}{current:#}");
    if current == Style::new() { text.trim_end().to_owned() } else { text }
}

fn axis(frame: &Frame, columns: usize) -> String {
    let now = (-frame.begins / frame.lasts() * columns as f64) as usize;
    let past = scale::ago(frame.begins);
    let future = if frame.ends > 0.0 { scale::ago(frame.ends) } else { String::new() };
    let gap = now.saturating_sub(past.chars().count() + 1);
    let rest = columns.saturating_sub(now + 3);
    format!("{:LABELS$}  {past}{:gap$}now{future:>rest$}", "", "")
}

fn legend(series: &Series, signs: &Signs) -> String {
    let Signs { mean, spread, median, likely, possible, bound, .. } = signs;
    let ahead = format!("  {median} forecast, median  {likely} 50 % band  {possible} 90 % band");
    let ahead =
        if series.lines.iter().any(|line| !line.forecasts.is_empty()) { ahead } else { String::new() };
    let bound = scale::bound(series).map(|what| format!("  {bound} {what}")).unwrap_or_default();
    format!("{mean} measured, mean  {spread} least to most{ahead}{bound}\n")
}
