//! The two pictures of the README.

use std::path::Path;

use anyhow::Result;
use hdrhistogram::Histogram;
use plotters::prelude::*;

use crate::report::thousands;

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 4] = [
    RGBColor(110, 110, 110),
    RGBColor(20, 110, 190),
    RGBColor(200, 70, 40),
    RGBColor(90, 170, 220),
];

/// Writers' throughput by number of clients, a line for each variant.
pub fn throughput(path: &Path, figures: &[(String, u32, f64)]) -> Result<()> {
    let Some(most) = figures.iter().map(|(.., tps)| *tps).max_by(f64::total_cmp) else {
        return Ok(());
    };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(14)
        .caption("Writers: transactions per second by clients", ("sans-serif", 18))
        .x_label_area_size(34)
        .y_label_area_size(64)
        .build_cartesian_2d((1f64..64f64).log_scale().base(2.0), 0f64..most * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("clients")
        .y_desc("tps")
        .x_label_formatter(&|clients| format!("{clients:.0}"))
        .y_label_formatter(&|tps| thousands(*tps))
        .disable_x_mesh()
        .max_light_lines(0)
        .draw()?;
    let mut names: Vec<&String> = Vec::new();
    for (name, ..) in figures {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for (name, colour) in names.into_iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(f64, f64)> = figures
            .iter()
            .filter(|(variant, ..)| variant == name)
            .map(|(_, clients, tps)| (f64::from(*clients), *tps))
            .collect();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart
            .draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    Ok(area.present()?)
}

/// Commit to visible: which share of the changes took at most this long.
pub fn latency(path: &Path, figures: &[(String, Histogram<u64>)]) -> Result<()> {
    let Some(most) = figures.iter().map(|(_, times)| times.value_at_quantile(0.999)).max() else {
        return Ok(());
    };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(14)
        .caption("Commit to visible in the target", ("sans-serif", 18))
        .x_label_area_size(34)
        .y_label_area_size(64)
        .build_cartesian_2d(0f64..most as f64 / 1_000.0, 0f64..100f64)?;
    chart
        .configure_mesh()
        .x_desc("milliseconds")
        .y_desc("% of changes")
        .x_label_formatter(&|milliseconds| format!("{milliseconds:.0}"))
        .y_label_formatter(&|percent| format!("{percent:.0}"))
        .max_light_lines(0)
        .draw()?;
    for ((name, times), colour) in figures.iter().zip(COLOURS[1..].iter().cycle()) {
        let points = (0..=1_000).map(|permille| {
            let quantile = f64::from(permille) / 1_000.0;
            (times.value_at_quantile(quantile) as f64 / 1_000.0, quantile * 100.0)
        });
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    Ok(area.present()?)
}

/// Where no line is.
fn legend<'a, C>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    position: SeriesLabelPosition,
) -> Result<()>
where
    C: CoordTranslate,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}
