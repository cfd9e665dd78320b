//! The lag over time, in bounded memory, and as a chart of text.

use std::fmt::Write;
use std::time::Duration;

use indicatif::HumanCount;
use serde::ser::{Serialize, Serializer};

/// When there are more points, every two become one.
const MAX_POINTS: usize = 512;

/// A chart's size in characters, axes not counted.
const WIDTH: usize = 64;
const HEIGHT: usize = 6;

/// Columns for the lag at the end: what is caught up within a column's time would not be seen to fall otherwise.
const END_WIDTH: usize = 4;

/// Nothing, where there was something before.
const NOTHING_LEFT: char = '.';

/// The records that were not taken, at points in time. As JSON: `[[seconds, records], …]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    points: Vec<Point>,
    /// How many looks a point stands for.
    merged: usize,
    /// Looks in the last point.
    in_last: usize,
    /// The last look of all, which the last point may hide among larger ones.
    latest: Option<(Duration, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: Duration,
    records: u64,
}

impl History {
    /// Adds what was seen last.
    pub(crate) fn add(&mut self, at: Duration, records: u64) {
        self.merged = self.merged.max(1);
        self.latest = Some((at, records));
        match self.points.last_mut() {
            Some(last) if self.in_last < self.merged => {
                self.in_last += 1;
                last.records = last.records.max(records);
            }
            _ => {
                self.points.push(Point { at, records });
                self.in_last = 1;
            }
        }
        if self.points.len() > MAX_POINTS {
            let halved = self.points.chunks(2).map(|pair| Point {
                at: pair[0].at,
                records: pair.iter().map(|point| point.records).max().unwrap_or_default(),
            });
            self.points = halved.collect();
            self.merged *= 2;
        }
    }

    /// The largest lag.
    pub fn peak(&self) -> u64 {
        self.points.iter().map(|point| point.records).max().unwrap_or_default()
    }

    /// Lines of text: the lag upwards, time to the right, each column the largest lag of its span of time, but the last ones,
    /// which are the lag at the end.
    pub fn chart(&self) -> String {
        let peak = self.peak();
        let end = self.latest.map_or(Duration::ZERO, |(at, _)| at);
        let label = HumanCount(peak).to_string();
        let margin = label.len().max(1);
        let columns = self.columns(end);
        let mut chart = String::new();
        for row in (0..HEIGHT).rev() {
            let label = if row == HEIGHT - 1 { label.as_str() } else { "" };
            let first = columns.iter().position(|records| *records > 0).unwrap_or(WIDTH);
            let bar = |(column, records): (usize, &u64)| match (*records, row) {
                (0, 0) if column > first => NOTHING_LEFT,
                (records, row) => block(records, peak, row),
            };
            let bars: String = columns.iter().enumerate().map(bar).collect();
            // Writing to memory does not fail.
            let _ = writeln!(chart, "{label:>margin$} ┤{}", bars.trim_end());
        }
        let _ = writeln!(chart, "{:>margin$} ┼{}", "0", "─".repeat(WIDTH));
        let _ =
            write!(chart, "{:margin$}  0 s{:>width$}", "", format!("{:.0} s", end.as_secs_f64()), width = WIDTH - 3);
        chart
    }

    /// The largest lag of each column; one without a look of its own is as the one before it.
    fn columns(&self, end: Duration) -> [u64; WIDTH] {
        const BEFORE_END: usize = WIDTH - END_WIDTH;
        let mut columns = [None; WIDTH];
        for point in &self.points {
            let share = point.at.as_secs_f64() / end.as_secs_f64().max(f64::MIN_POSITIVE);
            let column = &mut columns[((share * BEFORE_END as f64) as usize).min(BEFORE_END - 1)];
            *column = (*column).max(Some(point.records));
        }
        columns[BEFORE_END] = self.latest.map(|(_, records)| records);
        let mut last = 0;
        columns.map(|column| {
            last = column.unwrap_or(last);
            last
        })
    }
}

/// What of a bar is to be seen in a row.
fn block(records: u64, peak: u64, row: usize) -> char {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = records as f64 / peak.max(1) as f64 * (HEIGHT * 8) as f64;
    // What is there at all is to be seen.
    let height = if records > 0 { height.max(1.0) } else { 0.0 };
    let eighths = (height - (row * 8) as f64).clamp(0.0, 8.0);
    EIGHTHS[eighths.round() as usize]
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let latest = self.latest.filter(|(at, _)| self.points.last().is_some_and(|point| point.at < *at));
        let points = self.points.iter().map(|point| (point.at, point.records)).chain(latest);
        serializer.collect_seq(points.map(|(at, records)| ((at.as_secs_f64() * 1000.0).round() / 1000.0, records)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_long_history_is_kept_coarsely_and_keeps_its_peak() {
        let mut history = History::default();
        for second in 0..10_000 {
            history.add(seconds(second), if second == 4321 { 7777 } else { second % 10 });
        }
        assert!(history.points.len() <= MAX_POINTS, "{} points", history.points.len());
        assert_eq!(history.peak(), 7777);
        let peak = history.points.iter().find(|point| point.records == 7777).unwrap();
        assert!(peak.at <= seconds(4321) && peak.at > seconds(4200), "{:?}", peak.at);
        assert!(history.points.last().unwrap().at > seconds(9900));
    }

    #[test]
    fn a_chart_shows_what_rises_and_falls() {
        let mut history = History::default();
        for second in 0..=64 {
            history.add(seconds(second), if second < 32 { second * 100 } else { 0 });
        }
        let chart = history.chart();
        let lines: Vec<_> = chart.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 2, "{chart}");
        assert!(lines[0].starts_with("3,100 ┤") && lines[0].ends_with('█'), "{chart}");
        assert!(lines[HEIGHT - 1].chars().filter(|bar| *bar == '█').count() > 20, "{chart}");
        assert!(lines[HEIGHT].starts_with("    0 ┼──"), "{chart}");
        assert!(lines[HEIGHT + 1].contains("0 s") && lines[HEIGHT + 1].ends_with("64 s"), "{chart}");
    }

    #[test]
    fn what_is_caught_up_at_once_is_seen_to_fall_to_nothing() {
        let mut history = History::default();
        for second in 0..=100 {
            history.add(seconds(second), second * 10);
        }
        history.add(seconds(100) + Duration::from_millis(200), 0);
        let chart = history.chart();
        let bars: Vec<_> = chart.lines().take(HEIGHT).map(|line| line.split_once('┤').unwrap().1).collect();
        assert!(bars[..HEIGHT - 1].iter().all(|bars| bars.chars().count() == WIDTH - END_WIDTH), "{chart}");
        assert!(bars[0].ends_with('█') && bars[HEIGHT - 1].ends_with("█...."), "{chart}");
        let mut long = History::default();
        for look in 0..=MAX_POINTS as u64 {
            long.add(seconds(look), if look == MAX_POINTS as u64 { 0 } else { 5 });
        }
        let json: Vec<(f64, u64)> = serde_json::from_str(&serde_json::to_string(&long).unwrap()).unwrap();
        assert_eq!(json.last(), Some(&(MAX_POINTS as f64, 0)), "{json:?}");
    }

    #[test]
    fn nothing_makes_an_empty_chart() {
        let chart = History::default().chart();
        assert_eq!(chart.lines().count(), HEIGHT + 2);
        assert!(!chart.contains('█'));
        assert_eq!(serde_json::to_string(&History::default()).unwrap(), "[]");
    }
}
