//! Draws a run's results as an SVG: for each work the share of the machine's limit, or of the peer, on a logarithmic scale.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

const ROW: f64 = 44.0;
const LEFT: f64 = 150.0;
const WIDTH: f64 = 560.0;

/// From `-o json`, one object a line, to a file.
pub fn draw(results: &Path, svg: &Path) -> Result<()> {
    let text =
        std::fs::read_to_string(results).with_context(|| format!("{} cannot be read", results.display()))?;
    let rows = text.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>()?;
    std::fs::write(svg, picture(&rows)).with_context(|| format!("{} cannot be written", svg.display()))
}

fn picture(rows: &[Value]) -> String {
    let shown: Vec<&Value> = rows.iter().filter(|row| row["rouse"].is_number()).collect();
    let height = ROW * shown.len() as f64 + 60.0;
    let total = LEFT + WIDTH + 150.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{total}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let colours = [("rouse", "#1f6feb"), ("peer", "#bf6b21"), ("bare", "#8a8f98")];
    for (i, (name, colour)) in colours.iter().enumerate() {
        let x = LEFT + 110.0 * i as f64;
        svg.push_str(&format!("<rect x=\"{x}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"));
        svg.push_str(&format!("<text x=\"{}\" y=\"24\">{name}</text>\n", x + 18.0));
    }
    svg.push_str(&format!(
        "<text x=\"{}\" y=\"24\" fill=\"#555\">bars: logarithmic, each row its own</text>\n",
        LEFT + 340.0
    ));
    for (i, row) in shown.iter().enumerate() {
        let y = 44.0 + ROW * i as f64;
        let name = row["work"].as_str().unwrap_or_default();
        let unit = row["unit"].as_str().unwrap_or_default();
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}, {unit}</text>\n",
            LEFT - 10.0,
            y + 20.0
        ));
        let values: Vec<f64> = colours.iter().filter_map(|(key, _)| row[*key].as_f64()).collect();
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        for (j, (key, colour)) in colours.iter().enumerate() {
            let Some(value) = row[*key].as_f64() else { continue };
            let length = length(value, least, most);
            let top = y + 12.0 * j as f64;
            svg.push_str(&format!(
                "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"10\" fill=\"{colour}\"/>"
            ));
            svg.push_str(&format!(
                "<text x=\"{:.1}\" y=\"{}\" font-size=\"10\">{value}</text>\n",
                LEFT + length + 5.0,
                top + 9.0
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The smallest of a row is still to be seen.
fn length(value: f64, least: f64, most: f64) -> f64 {
    let floor = least / 3.0;
    if value <= 0.0 || floor <= 0.0 || most <= floor {
        return 2.0;
    }
    WIDTH * (value / floor).ln() / (most / floor).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_has_a_bar_for_each_figure_and_none_for_what_is_absent() {
        let rows = [
            json!({"work": "builds", "unit": "1/s", "rouse": 900.0, "peer": null, "bare": 2300.0}),
            json!({"work": "docker", "rouse": null}),
        ];
        let svg = picture(&rows);
        assert!(svg.contains("builds, 1/s"));
        assert!(!svg.contains("docker"));
        // The ground, three colours in the legend, two bars.
        assert_eq!(svg.matches("<rect").count(), 6);
    }

    #[test]
    fn the_largest_fills_the_row() {
        assert!((length(2300.0, 900.0, 2300.0) - WIDTH).abs() < 0.01);
        assert!(length(900.0, 900.0, 2300.0) > 100.0);
    }
}
