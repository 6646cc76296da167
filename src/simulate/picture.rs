//! Draws what there was against what was wanted, one panel below the other for each policy.

use super::{Outcome, Trace};
use plotters::prelude::*;
use rouse_model::Timestamp;

const WIDTH: u32 = 960;
const PANEL: u32 = 220;
const DEMAND: RGBColor = RGBColor(0x1f, 0x6f, 0xeb);
const CAPACITY: RGBColor = RGBColor(0xbf, 0x6b, 0x21);

/// Why a picture was not drawn.
type Drawing = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;

/// An SVG of all outcomes on the same axes: hours, and slots.
///
/// # Errors
/// Where the drawing library refuses.
pub fn picture(trace: &Trace, outcomes: &[Outcome]) -> Result<String, Drawing> {
    let mut svg = String::new();
    {
        let panels = outcomes.len().max(1);
        let height = PANEL * u32::try_from(panels).unwrap_or(1);
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let samples = || outcomes.iter().flat_map(|outcome| &outcome.samples);
        let most = samples().map(|sample| sample.demand.max(sample.capacity)).max().unwrap_or(1);
        let last = samples().map(|sample| sample.at).chain(trace.jobs.last().map(|job| job.arrives)).max();
        let hours = hours(last.unwrap_or_default());
        for (outcome, area) in outcomes.iter().zip(root.split_evenly((panels, 1))) {
            let title = format!(
                "{}: overhead {:.1} %, mean wait {:.1} s, {} boots",
                outcome.policy,
                outcome.overhead * 100.0,
                outcome.mean_wait_s,
                outcome.boots
            );
            let mut chart = ChartBuilder::on(&area)
                .margin(8)
                .caption(title, ("sans-serif", 15))
                .x_label_area_size(24)
                .y_label_area_size(48)
                // With room for the legend above the highest.
                .build_cartesian_2d(0.0..hours, 0..most + most / 2)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .x_label_formatter(&|hours| format!("{hours:.0} h"))
                .draw()?;
            let demand = outcome.samples.iter().map(|sample| (self::hours(sample.at), sample.demand));
            chart
                .draw_series(AreaSeries::new(demand, 0, DEMAND.mix(0.35)))?
                .label("demand: runs or waits")
                .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], DEMAND.mix(0.35).filled()));
            let capacity = outcome.samples.iter().map(|sample| (self::hours(sample.at), sample.capacity));
            chart
                .draw_series(LineSeries::new(capacity, CAPACITY))?
                .label("capacity: slots")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 12, y)], CAPACITY));
            chart
                .configure_series_labels()
                .background_style(WHITE.mix(0.8))
                .border_style(TRANSPARENT)
                .draw()?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn hours(at: Timestamp) -> f64 {
    at.since(Timestamp(0)).as_secs_f64() / 3600.0
}
