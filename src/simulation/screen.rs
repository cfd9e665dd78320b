//! A run's progress on standard error: on a terminal a few lines that change and never wrap, elsewhere a line now and then.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::progress::{Progress, Stage};

/// Often enough for a size that changes and for a clock.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Where no terminal is, so often it is told how a run goes on.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Where no terminal is, a wait that is over by then is not told.
const TELL_WAIT_AFTER: Duration = Duration::from_secs(1);

/// A reason takes so many lines at most.
const TROUBLE_LINES: usize = 4;

/// Of a terminal that does not tell its size.
const USUAL_SIZE: Size = Size { columns: 80, rows: 24 };

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// What is said when a run is asked to stop.
const STOPPING: &str = "stopping: what was logged is still written and checked; Ctrl-C again aborts";

/// Shows a run's progress on standard error while `work` goes on, and says when `stop` has been heard of.
///
/// # Cancellation
/// As that of `work`; what stands on a terminal is taken away.
pub async fn draw<T>(progress: watch::Receiver<Progress>, stop: CancellationToken, work: impl Future<Output = T>) -> T {
    tokio::select! {
        // What it has done last is not overtaken by a look at it.
        biased;
        done = work => done,
        never = show(progress, stop) => match never {},
    }
}

async fn show(progress: watch::Receiver<Progress>, stop: CancellationToken) -> Infallible {
    let mut screen = match stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb") {
        true => Screen::Terminal(Terminal::default()),
        false => Screen::Plain(Plain::default()),
    };
    let mut watch = Watch { stage: Stage::default(), waiting_for: None, begun: Instant::now() };
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopping = false;
    loop {
        let now = progress.borrow().clone();
        let elapsed = watch.elapsed(&now);
        // Whatever has not begun ends at once, and needs no announcement.
        if stop.is_cancelled() && !stopping && now.stage != Stage::Starting {
            stopping = true;
            screen.say(STOPPING);
        }
        screen.show(&now, elapsed);
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled(), if !stopping && now.stage != Stage::Starting => {}
        }
    }
}

/// Since when a run is at its stage.
struct Watch {
    stage: Stage,
    waiting_for: Option<String>,
    begun: Instant,
}

impl Watch {
    fn elapsed(&mut self, now: &Progress) -> Duration {
        if self.stage != now.stage || self.waiting_for != now.waiting_for {
            *self = Self { stage: now.stage, waiting_for: now.waiting_for.clone(), begun: Instant::now() };
        }
        self.begun.elapsed()
    }
}

enum Screen {
    Terminal(Terminal),
    Plain(Plain),
}

impl Screen {
    fn say(&mut self, text: &str) {
        match self {
            Self::Terminal(terminal) => terminal.say(text),
            Self::Plain(_) => write(&format!("{text}\n")),
        }
    }

    fn show(&mut self, progress: &Progress, elapsed: Duration) {
        match self {
            Self::Terminal(terminal) => terminal.show(progress, elapsed),
            Self::Plain(plain) => plain.show(progress, elapsed),
        }
    }
}

/// Lines that are drawn again and again.
///
/// The cursor waits at the beginning of the first of them: a terminal that becomes narrower breaks lines into several, all of which are
/// below it then, and what a terminal echoes of Ctrl-C stands where the next drawing goes.
#[derive(Default)]
struct Terminal {
    turn: usize,
}

impl Terminal {
    fn show(&mut self, progress: &Progress, elapsed: Duration) {
        self.turn += 1;
        let lines = lines(progress, elapsed, SPINNER[self.turn % SPINNER.len()], size());
        let Some((first, rest)) = lines.split_first() else { return };
        let mut drawing = format!("\r{first}{CLEAR_REST}");
        for line in rest {
            drawing.push_str("\r\n");
            drawing.push_str(line);
        }
        drawing.push('\r');
        if !rest.is_empty() {
            drawing.push_str(&format!("\x1b[{}A", rest.len()));
        }
        write(&drawing);
    }

    /// A line that stays, above those that change.
    fn say(&mut self, text: &str) {
        write(&format!("{CLEAR}{}\r\n", wrap(text, size().width(), usize::MAX).join("\r\n")));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        write(CLEAR);
    }
}

/// From the cursor to the end of the screen.
const CLEAR_REST: &str = "\x1b[J";

/// All lines. Some terminals keep what is cleared from the screen's first corner on, so the first character is cleared by itself.
const CLEAR: &str = "\r \x1b[J\r\x1b[K";

/// Lines that stay.
#[derive(Default)]
struct Plain {
    told: Option<Told>,
    /// When a trouble was told for the first time.
    trouble_told: Option<Instant>,
}

struct Told {
    at: Instant,
    waiting: bool,
}

impl Plain {
    fn show(&mut self, progress: &Progress, elapsed: Duration) {
        if self.is_due(progress, elapsed, Instant::now()) {
            write(&format!("{}\n", line(progress, elapsed)));
        }
    }

    /// Whether there is something to tell: a wait that begins, a trouble that begins, or anything after a while.
    fn is_due(&mut self, progress: &Progress, elapsed: Duration, now: Instant) -> bool {
        let waiting = progress.waiting_for.is_some();
        let told = self.told.get_or_insert(Told { at: now, waiting: false });
        let waits = waiting && !told.waiting && elapsed >= TELL_WAIT_AFTER;
        let fails = progress.trouble.is_some() && self.trouble_told.is_none_or(|at| now - at >= TELL_EVERY);
        let is_due = waits || fails || now - told.at >= TELL_EVERY;
        if is_due {
            *told = Told { at: now, waiting };
            self.trouble_told = progress.trouble.is_some().then_some(now);
        }
        is_due
    }
}

/// Nobody is there to be told that standard error cannot be written.
fn write(text: &str) {
    let mut stderr = stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[expect(
    clippy::disallowed_methods,
    reason = "a screen is more than lines that are told, and what cannot be written to it is ignored"
)]
fn stderr() -> std::io::Stderr {
    std::io::stderr()
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

impl Size {
    /// Some terminals break a line that fills their last column.
    fn width(self) -> usize {
        self.columns.saturating_sub(1)
    }
}

fn size() -> Size {
    match rustix::termios::tcgetwinsize(stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => USUAL_SIZE,
    }
}

/// What is shown on a terminal of that size.
fn lines(progress: &Progress, elapsed: Duration, spinner: char, size: Size) -> Vec<String> {
    let mut parts = vec![format!("{spinner} {}", progress.headline(elapsed))];
    parts.extend(progress.details(elapsed));
    let mut lines = vec![fit(&parts, size.width())];
    if let Some(trouble) = &progress.trouble {
        const INDENT: usize = 2;
        let trouble = wrap(trouble, size.width().saturating_sub(INDENT), TROUBLE_LINES);
        lines.extend(trouble.iter().map(|line| fit(&[format!("{:INDENT$}{line}", "")], size.width())));
    }
    lines.truncate(size.rows.saturating_sub(1).max(1));
    lines
}

/// The same on one line of any length.
fn line(progress: &Progress, elapsed: Duration) -> String {
    let mut parts = vec![progress.headline(elapsed)];
    parts.extend(progress.details(elapsed));
    parts.extend(progress.trouble.as_deref().map(printable));
    parts.join(" · ")
}

/// As many of the parts, from the first on, as there is room for; of the first what there is room for.
fn fit(parts: &[String], width: usize) -> String {
    let Some((first, rest)) = parts.split_first() else { return String::new() };
    let mut line = cut(first, width);
    for part in rest {
        let longer = format!("{line} · {}", printable(part));
        if columns(&longer) > width {
            break;
        }
        line = longer;
    }
    line
}

/// The text, or its beginning with an ellipsis.
fn cut(text: &str, width: usize) -> String {
    let text = printable(text);
    if columns(&text) <= width {
        return text;
    }
    let mut cut = String::new();
    let mut left = width.saturating_sub(1);
    for letter in text.chars() {
        match left.checked_sub(columns_of(letter)) {
            Some(less) => left = less,
            None => break,
        }
        cut.push(letter);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// A text on as many lines as it takes, or, cut off, on `most`. A word that is longer than a line has one to itself, and is cut.
fn wrap(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let text = printable(text);
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let is_last = lines.len() == most;
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(word) <= width => *line = format!("{line} {word}"),
            Some(line) if is_last => {
                let rest: Vec<_> = words.by_ref().collect();
                *line = cut(&format!("{line} {word} {}", rest.join(" ")), width);
            }
            _ => lines.push(cut(word, width)),
        }
    }
    lines
}

/// Without what would move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// How wide a terminal shows a character, at most: what some show as one column and some as two counts as two.
fn columns_of(letter: char) -> usize {
    match letter {
        // Hangul, symbols and emoji of the first plane, ideographs and full-width forms, and whatever is above the first plane.
        '\u{1100}'..='\u{115f}'
        | '\u{2300}'..='\u{27bf}'
        | '\u{2b00}'..='\u{2bff}'
        | '\u{2e80}'..='\u{ffef}'
        | '\u{10000}'.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn playing() -> Progress {
        Progress {
            stage: Stage::Playing,
            planned: Some(41),
            running: 3,
            completed: 12,
            emitted: 1500,
            acknowledged: 1490,
            taken: 1478,
            lag: 12,
            rate: 35.7,
            ..Progress::default()
        }
    }

    fn waiting(trouble: &str) -> Progress {
        let trouble = Some(trouble.to_owned()).filter(|trouble| !trouble.is_empty());
        Progress { waiting_for: Some("Kafka at 127.0.0.1:9999".to_owned()), trouble, ..Progress::default() }
    }

    fn check(columns: usize, progress: &Progress, expected: &[&str]) {
        let shown = lines(progress, seconds(12), '*', Size { columns, rows: 24 });
        assert_eq!(shown, expected, "at {columns} columns");
    }

    #[test]
    fn what_is_most_important_is_shown_at_any_width() {
        let all = "* playing 12 s · 12 of 41 games · about 25 s left · 3 running · lag 12 · 36 events/s \
                   · 1,490 events delivered, 1,478 written";
        check(200, &playing(), &[all]);
        let without_totals = "* playing 12 s · 12 of 41 games · about 25 s left · 3 running · lag 12 · 36 events/s";
        check(120, &playing(), &[without_totals]);
        check(80, &playing(), &["* playing 12 s · 12 of 41 games · about 25 s left · 3 running · lag 12"]);
        check(71, &playing(), &["* playing 12 s · 12 of 41 games · about 25 s left · 3 running · lag 12"]);
        check(70, &playing(), &["* playing 12 s · 12 of 41 games · about 25 s left · 3 running"]);
        check(40, &playing(), &["* playing 12 s · 12 of 41 games"]);
        check(20, &playing(), &["* playing 12 s"]);
        check(10, &playing(), &["* playin…"]);
        check(2, &playing(), &["…"]);
        check(1, &playing(), &[""]);
        check(0, &playing(), &[""]);
    }

    #[test]
    fn a_wait_tells_what_for_how_long_and_what_is_wrong() {
        check(80, &waiting(""), &["* waiting for Kafka at 127.0.0.1:9999, 12 of 30 s"]);
        let refused = "connect: no Kafka bootstrap server answers: cannot connect to Kafka broker 127.0.0.1:9999: \
                       Connection refused (os error 111); check the address and that the broker runs";
        check(
            80,
            &waiting(refused),
            &[
                "* waiting for Kafka at 127.0.0.1:9999, 12 of 30 s",
                "  connect: no Kafka bootstrap server answers: cannot connect to Kafka broker",
                "  127.0.0.1:9999: Connection refused (os error 111); check the address and that",
                "  the broker runs",
            ],
        );
        check(
            30,
            &waiting(refused),
            &[
                "* waiting for Kafka at 127.0…",
                "  connect: no Kafka bootstrap",
                "  server answers: cannot",
                "  connect to Kafka broker",
                "  127.0.0.1:9999: Connection…",
            ],
        );
        let shown = lines(&waiting(refused), seconds(1), '*', Size { columns: 30, rows: 3 });
        assert_eq!(shown.len(), 2, "the lines have to fit the screen: {shown:?}");
    }

    #[test]
    fn wide_characters_take_two_columns_and_control_characters_move_nothing() {
        let wide = Progress { waiting_for: Some("Kafka at 例え.テスト:9092".to_owned()), ..Progress::default() };
        check(80, &wide, &["* waiting for Kafka at 例え.テスト:9092, 12 of 30 s"]);
        check(28, &wide, &["* waiting for Kafka at 例…"]);
        check(29, &wide, &["* waiting for Kafka at 例え…"]);
        let moving = Progress { trouble: Some("one\ntwo\r\u{1b}[2J\tthree".to_owned()), ..playing() };
        let shown = lines(&moving, seconds(12), '*', Size { columns: 60, rows: 24 });
        assert_eq!(shown[1], "  one two [2J three");
        assert!(!line(&moving, seconds(12)).contains(char::is_control));
    }

    #[test]
    fn no_line_is_longer_than_a_terminal_is_wide() {
        let mut shown = vec![playing(), waiting("a reason that is longer than some terminals are wide: 例え.テスト")];
        for stage in [Stage::EndingGames, Stage::Flushing, Stage::CatchingUp, Stage::StoppingWorkers, Stage::Verifying]
        {
            shown.push(Progress { stage, trouble: Some("trouble ".repeat(50)), ..playing() });
        }
        for columns in 0..150 {
            for progress in &shown {
                for line in lines(progress, seconds(12), '*', Size { columns, rows: 24 }) {
                    assert!(super::columns(&line) < columns.max(1), "{line:?} at {columns} columns");
                }
            }
        }
    }

    #[test]
    fn where_no_terminal_is_a_wait_and_a_trouble_are_told_once_and_then_every_ten_seconds() {
        let begun = Instant::now();
        let told = |looks: &[(u64, &Progress)]| -> Vec<u64> {
            let mut plain = Plain::default();
            let is_due =
                |(at, progress): &&(u64, &Progress)| plain.is_due(progress, seconds(*at), begun + seconds(*at));
            looks.iter().filter(is_due).map(|(at, _)| *at).collect()
        };
        let (silent, refused, playing) = (&waiting(""), &waiting("refused"), &playing());
        let failing = &Progress { trouble: Some("refused".to_owned()), ..playing.clone() };
        let starting = &Progress::default();
        assert_eq!(told(&[(0, starting), (0, silent), (1, silent), (2, silent), (10, silent), (11, silent)]), [1, 11]);
        assert_eq!(told(&[(0, refused), (1, refused), (9, refused), (10, refused), (20, refused)]), [0, 10, 20]);
        assert_eq!(told(&[(0, starting), (0, silent), (0, playing), (9, playing), (10, playing)]), [10]);
        assert_eq!(
            told(&[(0, playing), (3, failing), (4, playing), (5, failing), (13, playing), (14, failing)]),
            [3, 13, 14]
        );
    }

    #[test]
    fn a_text_is_broken_between_words() {
        let check = |width, most, expected: &[&str]| assert_eq!(wrap("one two three", width, most), expected);
        check(80, 9, &["one two three"]);
        check(7, 9, &["one two", "three"]);
        check(4, 9, &["one", "two", "thr…"]);
        check(7, 1, &["one tw…"]);
        check(0, 9, &["", "", ""]);
    }
}
