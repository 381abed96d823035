//! Pictures of replays, as SVG that needs no font and no script.
use super::replay::spoken;
use controller_core::replay::regret::{Regret, Row};
use std::fmt::Write as _;

/// Pixels.
const WIDTH: f64 = 860.0;
const LABELS: f64 = 270.0;
const BARS: f64 = 400.0;
const ROW: f64 = 26.0;
const TOP: f64 = 64.0;

/// Each policy's mean above the best paths, and above that the direct paths' as a line.
pub fn regret(title: &str, regret: &Regret) -> String {
    let gap = regret.direct - regret.oracle;
    let most = regret.rows.iter().map(|row| row.score.regret).fold(gap.max(f64::MIN_POSITIVE), f64::max);
    let height = TOP + ROW * regret.rows.len() as f64 + 28.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(&mut svg, 16.0, 26.0, "font-size=\"16\"", &format!("{title}: mean regret of each policy"));
    let under = format!(
        "ms above the best path of each step of {} ({:.2} ms); the line is the direct path ({:.2} ms)",
        spoken(regret.step),
        regret.oracle,
        regret.direct
    );
    text(&mut svg, 16.0, 46.0, "fill=\"#555\"", &under);
    for (index, row) in regret.rows.iter().enumerate() {
        bar(&mut svg, row, TOP + ROW * index as f64, most);
    }
    let line = LABELS + BARS * gap / most;
    let bottom = TOP + ROW * regret.rows.len() as f64;
    let _ = writeln!(
        svg,
        "<line x1=\"{line:.1}\" y1=\"{:.1}\" x2=\"{line:.1}\" y2=\"{bottom:.1}\" stroke=\"#555\" \
         stroke-dasharray=\"4 3\"/>",
        TOP - 4.0
    );
    svg + "</svg>\n"
}

fn bar(svg: &mut String, row: &Row, top: f64, most: f64) {
    let colour = if row.policy == "ours" { "#1a7f4b" } else { "#8aa4c0" };
    let (length, middle) = (BARS * row.score.regret / most, top + 16.0);
    text(svg, LABELS - 10.0, middle, "text-anchor=\"end\"", &row.title);
    let _ = writeln!(
        svg,
        "<rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"18\" fill=\"{colour}\"/>",
        top + 3.0
    );
    let said = format!("{:.2} · {:.1} % worse", row.score.regret, row.score.worse);
    text(svg, LABELS + length + 8.0, middle, "fill=\"#333\"", &said);
}

pub(super) fn text(svg: &mut String, x: f64, y: f64, style: &str, said: &str) {
    let said = said.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{said}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_core::replay::policy::Kind;
    use controller_core::replay::regret::compare;
    use controller_core::replay::series::Series;
    use controller_core::replay::table::{Protocol, Table};

    #[test]
    fn a_picture_has_a_bar_for_each_policy_and_names_that_are_safe() {
        let series = Series::parse("step,src,a,b\n0,a,,1\n1,a,,2\n2,a,,3\n3,a,,4\n").expect("a series");
        let protocol = Protocol::default();
        let table = Table::new(&series, &protocol).expect("a table");
        let svg = regret("a<b", &compare(&table, &protocol, &[Kind::Direct, Kind::Ours], &mut |_, _| {}));
        assert_eq!(svg.matches("<rect x=").count(), 2);
        assert!(svg.contains("a&lt;b: mean regret") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
