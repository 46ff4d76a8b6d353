//! A chart of one row: the wall time of each case as a multiple of the one that all are compared with, over a scale of powers of two.

use std::fmt::Write as _;

use crate::goals::{self, Row, What};
use crate::page::cases;
use crate::ratio::{Spread, paired, spread};
use crate::record::Record;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 180.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 44.0;
const BAR: f64 = 30.0;
/// The scale: a quarter to 32 times as long.
const FIRST: f64 = -2.0;
const DOUBLINGS: f64 = 7.0;

/// As SVG.
#[must_use]
pub fn draw(record: &Record, row: &Row) -> String {
    let cases = cases(record, row);
    let bottom = TOP + BAR * cases.len() as f64;
    let height = bottom + 34.0;
    let title = format!("{}: {} of {}, line from least to most, red: goal", row.title, measure_name(row), row.beside);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    words(&mut svg, 12.0, 22.0, "start", &title);
    scale(&mut svg, bottom);
    for (number, case) in cases.into_iter().enumerate() {
        draw_case(&mut svg, TOP + BAR * number as f64, record, row, case);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The row about memory has no times worth a bar.
fn is_memory(row: &Row) -> bool {
    row.name == "memory"
}

/// What its bars are.
pub(crate) fn measure_name(row: &Row) -> &'static str {
    if is_memory(row) { "memory as a multiple" } else { "wall time as a multiple" }
}

fn place(multiple: f64) -> f64 {
    let doublings = (multiple.max(f64::MIN_POSITIVE).log2() - FIRST).clamp(0.0, DOUBLINGS);
    LEFT + (WIDTH - LEFT - RIGHT) * doublings / DOUBLINGS
}

fn words(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{words}</text>");
}

fn scale(svg: &mut String, bottom: f64) {
    for multiple in [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0] {
        let (x, colour) = (place(multiple), if multiple == 1.0 { "#888888" } else { "#dddddd" });
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom:.1}\" stroke=\"{colour}\"/>");
        words(svg, x, bottom + 18.0, "middle", &multiple.to_string());
    }
}

fn draw_case(svg: &mut String, top: f64, record: &Record, row: &Row, case: &str) {
    let pair = [case, row.beside];
    let multiple = if is_memory(row) {
        paired(record, row.name, pair, |ours, other| Some(ours.peak_mib / other.peak_mib))
    } else {
        paired(record, row.name, pair, |ours, other| Some(ours.wall_s / other.wall_s))
    };
    words(svg, LEFT - 12.0, top + 18.0, "end", case);
    if let Some(multiple) = multiple {
        bar(svg, top, &multiple, case);
    }
    if let Some(goal) = goal(record, row, case) {
        let x = place(goal);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {:.1}V{:.1}\" stroke=\"#b03030\" stroke-width=\"2\"/>",
            top + 3.0,
            top + 27.0
        );
    }
}

fn bar(svg: &mut String, top: f64, multiple: &Spread, case: &str) {
    let ours = case.starts_with("tanist") || !case.contains(|c: char| c.is_ascii_uppercase()) && case.contains(' ');
    let colour = if ours { "#2f6f4f" } else { "#7a8fa6" };
    let (from, to) = (place(1.0), place(multiple.median()));
    let (x, width) = (from.min(to), (from - to).abs().max(2.0));
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>",
        top + 8.0
    );
    let (least, most, middle) = (place(multiple.least()), place(multiple.most()), top + 15.0);
    let _ = writeln!(svg, "<path d=\"M{least:.1} {middle:.1}H{most:.1}\" stroke=\"#222222\"/>");
    words(svg, to.max(most).max(from) + 6.0, top + 19.0, "start", &format!("{:.2}", multiple.median()));
}

/// Where a goal lies on this scale: one that is told as a multiple of another case is carried over.
fn goal(record: &Record, row: &Row, case: &str) -> Option<f64> {
    let goal = goals::all().find(|goal| goal.row == row.name && goal.case == case && goal.what == What::Wall)?;
    let wall = |case: &str| spread(record, row.name, case, |sample| Some(sample.wall_s));
    Some(goal.most * wall(goal.beside)?.median() / wall(row.beside)?.median())
}
