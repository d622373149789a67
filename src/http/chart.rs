//! Small charts of the last hour, as SVG that needs no script. The words around them are HTML, so that they keep their
//! size whatever the width.

use std::fmt::Write;

use jiff::Timestamp;

use super::figure::Escaped;

/// The hour, in the units of the drawing: one is ten seconds.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 100.0;
const UNIT_SECONDS: f64 = 10.0;

/// A value at a moment; none where it is not known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub at: Timestamp,
    pub value: Option<f64>,
}

/// One figure over the last hour.
pub(super) struct Chart<'a> {
    /// Names it within the page.
    pub id: &'a str,
    /// What it shows.
    pub title: &'a str,
    /// A value in words.
    pub say: &'a dyn Fn(f64) -> String,
    /// The axis ends at this value at least, so that noise does not look like peaks.
    pub least: f64,
}

impl Chart<'_> {
    /// As HTML.
    pub(super) fn html(&self, now: Timestamp, points: &[Point]) -> String {
        let values = || points.iter().filter_map(|point| point.value);
        let most = values().fold(0.0, f64::max);
        let last = points.last().and_then(|point| point.value);
        let top = upper_end(most.max(self.least));
        let said = |value: Option<f64>| value.map_or("unknown".to_string(), self.say);
        let (now_said, most_said) = (said(last), said(values().next().map(|_| most)));
        let title = Escaped(self.title);
        let line = line(now, points, top);
        let area = area(now, points, top);
        let (top_said, middle_said) = ((self.say)(top), (self.say)(top / 2.0));
        let id = self.id;
        let half = HEIGHT / 2.0;
        format!(
            "<figure class=chart aria-labelledby={id}>\n\
             <figcaption><h2 id={id}>{title}</h2><p><span>now <b>{now_said}</b></span> <span>most <b>{most_said}</b></span></p></figcaption>\n\
             <div class=axes>\
             <div class=y aria-hidden=true><span>{top_said}</span><span>{middle_said}</span><span>{zero}</span></div>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=none role=img \
             aria-label=\"{title}, the last hour: now {now_said}, most {most_said}\">\
             <path class=grid d=\"M0 0H{WIDTH}M0 {half}H{WIDTH}M0 {HEIGHT}H{WIDTH}\"/>\
             <path class=area d=\"{area}\"/><path class=line d=\"{line}\"/></svg>\
             <div class=x aria-hidden=true><span>1 h ago</span><span>30 min</span><span>now</span></div>\
             </div>\n</figure>\n",
            zero = (self.say)(0.0),
        )
    }
}

/// The next round number, whose half is one, too.
fn upper_end(most: f64) -> f64 {
    let power = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    // Rounding may leave a hair above the power itself.
    steps.map(|step| step * power).into_iter().find(|end| *end >= most * 0.999_999).unwrap_or(most)
}

/// The runs of known values, in the units of the drawing.
fn runs(now: Timestamp, points: &[Point], top: f64) -> Vec<Vec<(f64, f64)>> {
    let mut runs = vec![Vec::new()];
    for point in points {
        let age = now.duration_since(point.at).as_secs_f64();
        let x = (WIDTH - age / UNIT_SECONDS).clamp(0.0, WIDTH);
        match (point.value, runs.last_mut()) {
            (Some(value), Some(run)) => run.push((x, HEIGHT - value / top * HEIGHT)),
            _ => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn line(now: Timestamp, points: &[Point], top: f64) -> String {
    let mut path = String::new();
    for run in runs(now, points, top) {
        for (place, (x, y)) in run.iter().enumerate() {
            let command = if place == 0 { 'M' } else { 'L' };
            write!(path, "{command}{x:.1} {y:.1}").expect("a String takes everything");
        }
        // A value that is alone is seen as a dot: the line's ends are round.
        if run.len() == 1 {
            path.push_str("h0");
        }
    }
    path
}

fn area(now: Timestamp, points: &[Point], top: f64) -> String {
    let mut path = String::new();
    for run in runs(now, points, top) {
        let (first, last) = (run[0].0, run[run.len() - 1].0);
        write!(path, "M{first:.1} {HEIGHT}").expect("a String takes everything");
        for (x, y) in &run {
            write!(path, "L{x:.1} {y:.1}").expect("a String takes everything");
        }
        write!(path, "L{last:.1} {HEIGHT}Z").expect("a String takes everything");
    }
    path
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_above_the_most() {
        let ends = [0.4, 1.0, 1.2, 3.0, 7.0, 10.0, 11.0, 5_001.0].map(upper_end);
        assert_eq!(ends, [0.4, 1.0, 2.0, 3.0, 8.0, 10.0, 20.0, 6_000.0]);
    }

    #[test]
    fn the_line_has_a_gap_where_nothing_is_known() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(2);
        let point = |minutes, value| Point { at: now - SignedDuration::from_mins(minutes), value };
        let points =
            [point(60, Some(0.0)), point(30, None), point(10, Some(5.0)), point(0, Some(10.0))];

        assert_eq!(line(now, &points, 10.0), "M0.0 100.0h0M300.0 50.0L360.0 0.0");
        assert_eq!(
            area(now, &points, 10.0),
            "M0.0 100L0.0 100.0L0.0 100ZM300.0 100L300.0 50.0L360.0 0.0L360.0 100Z"
        );
    }
}
