//! A chart of one table: for each fault where detection, fence and first durable write lie, over a scale of powers of ten, and the goal.

use std::fmt::Write as _;

use super::measured::{Row, Times};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const ROW: f64 = 58.0;
/// The scale: 1 ms to 10 s.
const DECADES: f64 = 4.0;
const PARTS: [(&str, &str); 3] = [("detected", "#7a8fa6"), ("fenced", "#c98a2b"), ("first durable write", "#2f6f4f")];

/// The chart as SVG.
pub fn draw(title: &str, rows: &[(Row, f64)]) -> String {
    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + 34.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}: from the fault to the first durable write</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    legend(&mut svg, title);
    scale(&mut svg, bottom);
    for (number, (row, goal)) in rows.iter().enumerate() {
        draw_row(&mut svg, TOP + ROW * number as f64, row, *goal);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a time lies; what is shorter than 1 ms lies at the edge.
fn place(ms: f64) -> f64 {
    let decades = ms.max(1.0).log10().min(DECADES);
    LEFT + (WIDTH - LEFT - RIGHT) * decades / DECADES
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{words}</text>");
}

fn legend(svg: &mut String, title: &str) {
    text(
        svg,
        12.0,
        22.0,
        "start",
        &format!("{title}: bar from median to 99th percentile, line from least to most, red: goal"),
    );
    for (number, (name, colour)) in PARTS.iter().enumerate() {
        let x = LEFT + 160.0 * number as f64;
        let _ = writeln!(svg, "<rect x=\"{x:.1}\" y=\"34\" width=\"12\" height=\"8\" fill=\"{colour}\"/>");
        text(svg, x + 18.0, 42.0, "start", name);
    }
}

fn scale(svg: &mut String, bottom: f64) {
    for (ms, words) in [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s"), (10_000.0, "10 s")] {
        let x = place(ms);
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom:.1}\" stroke=\"#dddddd\"/>");
        text(svg, x, bottom + 18.0, "middle", words);
    }
}

fn draw_row(svg: &mut String, top: f64, row: &Row, goal: f64) {
    text(svg, LEFT - 12.0, top + 26.0, "end", &row.fault);
    text(svg, LEFT - 12.0, top + 42.0, "end", &format!("{} times", row.takeovers));
    let times = [&row.detected, &row.fenced, &row.wrote];
    for (number, (times, (_, colour))) in times.into_iter().zip(PARTS).enumerate() {
        // What was asked for is not detected.
        if times.most() > 0.0 {
            draw_times(svg, top + 10.0 + 14.0 * number as f64, times, colour);
        }
    }
    let (x, end) = (place(goal), top + ROW - 6.0);
    let _ = writeln!(svg, "<path d=\"M{x:.1} {:.1}V{end:.1}\" stroke=\"#b03030\" stroke-width=\"2\"/>", top + 6.0);
}

fn draw_times(svg: &mut String, top: f64, times: &Times, colour: &str) {
    let (least, most) = (place(times.percentile(0)), place(times.most()));
    let (from, to) = (place(times.percentile(50)), place(times.percentile(99)));
    let middle = top + 4.0;
    let _ = writeln!(svg, "<path d=\"M{least:.1} {middle:.1}H{most:.1}\" stroke=\"{colour}\"/>");
    let width = (to - from).max(2.0);
    let _ = writeln!(svg, "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"8\" fill=\"{colour}\"/>");
}
