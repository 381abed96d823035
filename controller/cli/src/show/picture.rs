//! The charts of paths and links as SVG that needs no font and no script; a panel for each path.
use super::chart::text;
use super::scale::{self, Frame, ago, amount, now_words, role};
use proto_model::insight::{Line, Point, Series};
use proto_model::topology::Forecast;
use std::fmt::Write as _;

/// Pixels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 80.0;
const PLOT: f64 = 760.0;
const TOP: f64 = 44.0;
const PANEL: f64 = 170.0;
/// Of that for the picture itself; above it stands the title.
const HEIGHT: f64 = 120.0;
const TITLE: f64 = 24.0;

pub fn of(title: &str, series: &Series) -> String {
    let height = TOP + PANEL * series.lines.len() as f64 + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(&mut svg, 16.0, 26.0, "font-size=\"16\"", &format!("{title}  {}", series.at));
    match Frame::of(series) {
        Some(frame) => {
            for (index, line) in series.lines.iter().enumerate() {
                panel(&mut svg, series, line, &Place { frame, top: TOP + PANEL * index as f64 });
            }
            let bound = scale::bound(series).map(|what| format!("; red: {what}")).unwrap_or_default();
            let said = format!(
                "line: mean; grey: least to most; orange: median, 50 % and 90 % of the forecast{bound}"
            );
            text(&mut svg, LEFT, height - 10.0, "fill=\"#555\"", &said);
        }
        None => text(&mut svg, 16.0, TOP + 20.0, "", "nothing was measured or forecast of it yet"),
    }
    svg + "</svg>\n"
}

/// Where a panel is, and what it spans.
struct Place {
    frame: Frame,
    top: f64,
}

impl Place {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + PLOT * (seconds - self.frame.begins) / self.frame.lasts()
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.frame.low) / self.frame.height();
        self.top + TITLE + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }
}

fn panel(svg: &mut String, series: &Series, line: &Line, place: &Place) {
    let title = format!("{} {}  {}", line.path, role(line.role), now_words(series, line));
    text(svg, LEFT, place.top + 16.0, "fill=\"#222\"", &title);
    grid(svg, series, place);
    history(svg, series, line, place);
    future(svg, line, place);
    if let Some(bound) = series.bound.filter(|bound| (*bound as f64) <= place.frame.high) {
        let y = place.y(bound as f64);
        let style = "stroke=\"#c0392b\" stroke-dasharray=\"6 4\"";
        rule(svg, [LEFT, y, LEFT + PLOT, y], style);
        let said = format!("≤ {}", amount(series.quantity, bound as f64));
        text(svg, LEFT + PLOT - 4.0, y - 4.0, "fill=\"#c0392b\" text-anchor=\"end\"", &said);
    }
}

fn grid(svg: &mut String, series: &Series, place: &Place) {
    let frame = &place.frame;
    for share in [0.0, 0.5, 1.0] {
        let value = frame.low + frame.height() * share;
        let y = place.y(value);
        rule(svg, [LEFT, y, LEFT + PLOT, y], "stroke=\"#ddd\"");
        text(svg, LEFT - 6.0, y + 4.0, "text-anchor=\"end\" fill=\"#555\"", &amount(series.quantity, value));
    }
    let bottom = place.y(frame.low);
    rule(svg, [place.x(0.0), place.top + TITLE, place.x(0.0), bottom], "stroke=\"#888\"");
    let said = |svg: &mut String, seconds: f64, anchor: &str, words: &str| {
        let style = format!("fill=\"#555\" text-anchor=\"{anchor}\"");
        text(svg, place.x(seconds), bottom + 15.0, &style, words);
    };
    said(svg, frame.begins, "start", &ago(frame.begins));
    said(svg, 0.0, "middle", "now");
    if frame.ends > 0.0 {
        said(svg, frame.ends, "end", &ago(frame.ends));
    }
}

/// Gaps stay gaps: a run of steps without one is a line of its own.
fn history(svg: &mut String, series: &Series, line: &Line, place: &Place) {
    let next = |one: &Point, other: &Point| other.at.since(one.at) <= series.step;
    for run in line.points.chunk_by(next) {
        let at = |point: &Point, value: u64| {
            let middle = Frame::seconds(series, point.at) + series.step.as_secs_f64() / 2.0;
            (place.x(middle.min(0.0)), place.y(value as f64))
        };
        let upper = run.iter().map(|point| at(point, point.most));
        let lower = run.iter().rev().map(|point| at(point, point.least));
        area(svg, upper.chain(lower), "#d5dbe3");
        polyline(svg, run.iter().map(|point| at(point, point.mean)), "#2c5d8f");
    }
}

fn future(svg: &mut String, line: &Line, place: &Place) {
    let at = |forecast: &Forecast, index: usize| {
        (place.x(forecast.horizon.as_secs_f64()), place.y(forecast.quantiles[index] as f64))
    };
    for (low, high, colour) in [(1, 5, "#fbe3c4"), (2, 4, "#f5b971")] {
        let upper = line.forecasts.iter().map(|forecast| at(forecast, high));
        let lower = line.forecasts.iter().rev().map(|forecast| at(forecast, low));
        area(svg, upper.chain(lower), colour);
    }
    polyline(svg, line.forecasts.iter().map(|forecast| at(forecast, 3)), "#d9730d");
}

fn points(at: impl Iterator<Item = (f64, f64)>) -> String {
    at.map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

fn area(svg: &mut String, at: impl Iterator<Item = (f64, f64)>, colour: &str) {
    let _ = writeln!(svg, "<polygon points=\"{}\" fill=\"{colour}\"/>", points(at));
}

fn polyline(svg: &mut String, at: impl Iterator<Item = (f64, f64)>, colour: &str) {
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
        points(at)
    );
}

fn rule(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], style: &str) {
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
}
