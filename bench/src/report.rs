//! What a work found: one row, as a JSON object for programs and as a line of a table for people.

use serde_json::{Map, Value, json};

/// One work's figures. What was not or could not be measured is absent, never a guess.
#[derive(Debug, Clone)]
pub struct Row {
    pub work: &'static str,
    pub unit: &'static str,
    pub rouse: Option<f64>,
    pub peer: Option<f64>,
    pub bare: Option<f64>,
    /// Of the master, for each build or each unit that `more` names.
    pub cpu_ms: Option<f64>,
    pub runs: usize,
    /// Largest less smallest, as a share of the median.
    pub spread: Option<f64>,
    /// Further figures of the same work.
    pub more: Map<String, Value>,
    /// For people: why something is absent, what was checked.
    pub notes: Vec<String>,
}

impl Row {
    pub fn new(work: &'static str, unit: &'static str) -> Self {
        Self {
            work,
            unit,
            rouse: None,
            peer: None,
            bare: None,
            cpu_ms: None,
            runs: 0,
            spread: None,
            more: Map::new(),
            notes: Vec::new(),
        }
    }

    /// The median, the count and the spread of Rouse's own runs.
    pub fn rouse(mut self, samples: &Samples) -> Self {
        self.rouse = samples.median();
        self.runs = samples.0.len();
        self.spread = samples.spread();
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub fn with(mut self, name: &str, value: Option<f64>) -> Self {
        self.more.insert(name.into(), rounded(value));
        self
    }

    pub fn json(&self) -> Value {
        json!({
            "work": self.work, "unit": self.unit, "rouse": rounded(self.rouse), "peer": rounded(self.peer),
            "bare": rounded(self.bare), "cpu_ms": rounded(self.cpu_ms), "runs": self.runs,
            "spread": rounded(self.spread), "more": self.more, "notes": self.notes,
        })
    }
}

/// Four digits are more than a run can hold.
fn rounded(value: Option<f64>) -> Value {
    let Some(value) = value.filter(|v| v.is_finite()) else { return Value::Null };
    if value == 0.0 {
        return json!(0);
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    json!((value * scale).round() / scale)
}

/// Measured values of one kind.
#[derive(Debug, Clone, Default)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> Option<f64> {
        self.at(0.5)
    }

    /// The value below which this share of them lies.
    pub fn at(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = ((sorted.len() as f64 - 1.0) * share).round();
        if sorted.is_empty() { None } else { sorted.get(place as usize).copied() }
    }

    pub fn most(&self) -> Option<f64> {
        self.at(1.0)
    }

    pub fn spread(&self) -> Option<f64> {
        let (least, most, median) = (self.at(0.0)?, self.at(1.0)?, self.median()?);
        if self.0.len() < 2 || median == 0.0 { None } else { Some((most - least) / median) }
    }
}

/// For people.
pub fn table(rows: &[Row]) -> String {
    let head = ["work", "unit", "rouse", "peer", "bare", "cpu ms", "runs", "spread"].map(str::to_owned);
    let mut lines = vec![head];
    for row in rows {
        lines.push([
            row.work.into(),
            row.unit.into(),
            short(row.rouse),
            short(row.peer),
            short(row.bare),
            short(row.cpu_ms),
            row.runs.to_string(),
            row.spread.map_or_else(|| "–".into(), |s| format!("{:.0} %", s * 100.0)),
        ]);
    }
    let width = |i: usize| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut text = String::new();
    for (line, row) in lines.iter().zip(std::iter::once(None).chain(rows.iter().map(Some))) {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}", w = *w)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
        for (name, value) in row.iter().flat_map(|row| &row.more) {
            text.push_str(&format!("    {name}: {value}\n"));
        }
        for note in row.iter().flat_map(|row| &row.notes) {
            text.push_str(&format!("    {note}\n"));
        }
    }
    text
}

fn short(value: Option<f64>) -> String {
    match rounded(value) {
        Value::Null => "–".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_percentile_and_spread() {
        let samples = Samples(vec![4.0, 1.0, 2.0, 3.0, 100.0]);
        assert_eq!(samples.median(), Some(3.0));
        assert_eq!(samples.most(), Some(100.0));
        assert_eq!(samples.spread(), Some(33.0));
        assert_eq!(Samples::default().median(), None);
        assert_eq!(Samples(vec![1.0]).spread(), None);
    }

    #[test]
    fn what_is_absent_is_null_and_figures_have_four_digits() {
        let row = Row::new("builds", "1/s").rouse(&Samples(vec![1234.567]));
        let json = row.json();
        assert_eq!(json["rouse"], 1235.0);
        assert!(json["peer"].is_null());
        assert_eq!(rounded(Some(0.012_345_6)), 0.01235);
    }
}
