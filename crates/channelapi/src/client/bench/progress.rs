//! How far a run is, on standard error: a bar where a person looks at a terminal, else a line now and then.

use std::{
    convert::Infallible,
    io::{IsTerminal, stderr},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::interval;

use super::course::{Course, Extent, Stage};
use crate::output::tell;

/// How often the bar moves.
const BAR: Duration = Duration::from_millis(100);

/// How often a line is written.
const LINE: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    course: Course,
    /// `None` where there is no terminal, or one that shall be left plain.
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(course: &Course) -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let bar = (stderr().is_terminal() && !is_plain).then(ProgressBar::no_length);
        Self { course: course.clone(), bar }
    }

    /// Shows it for as long as it is polled.
    pub(super) async fn show(&self) -> Infallible {
        let mut ticks = interval(BAR);
        let (mut shown, mut said) = (None, Instant::now());
        loop {
            ticks.tick().await;
            let (stage, done) = (self.course.stage(), self.course.done.load(Ordering::Relaxed));
            let is_new = shown.as_ref() != Some(&stage);
            let elapsed = self.course.effort().0;
            match &self.bar {
                Some(bar) => {
                    if is_new {
                        bar.set_style(style(&stage));
                        bar.reset();
                        bar.set_prefix(stage.what);
                    }
                    match stage.extent {
                        Extent::Unknown => {}
                        Extent::Count(count) => {
                            bar.set_length(count);
                            bar.set_position(done);
                        }
                        Extent::Time(time) => {
                            bar.set_length(millis(time));
                            bar.set_position(millis(elapsed.min(time)));
                        }
                    }
                    bar.set_message(far(&stage, done, elapsed));
                    bar.tick();
                }
                None if is_new || said.elapsed() >= LINE => {
                    tell(&line(&stage, done, elapsed));
                    said = Instant::now();
                }
                None => {}
            }
            shown = Some(stage);
        }
    }

    /// Nothing is left of the bar.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(stage: &Stage) -> ProgressStyle {
    let template = match stage.extent {
        Extent::Unknown => "{spinner} {prefix}",
        Extent::Count(_) | Extent::Time(_) => "{prefix} [{bar:30}] {msg}",
    };
    ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ")
}

fn line(stage: &Stage, done: u64, elapsed: Duration) -> String {
    match stage.extent {
        Extent::Unknown => stage.what.to_owned(),
        Extent::Count(_) | Extent::Time(_) => format!("{}: {}", stage.what, far(stage, done, elapsed)),
    }
}

/// How far it is, in words.
fn far(stage: &Stage, done: u64, elapsed: Duration) -> String {
    match stage.extent {
        Extent::Unknown => String::new(),
        Extent::Count(count) => format!("{done} of {count}"),
        Extent::Time(time) => {
            let seconds = format!("{} of {} s", elapsed.min(time).as_secs(), time.as_secs_f64());
            // Where nothing is counted, time is all there is.
            if done > 0 { format!("{done} in {seconds}") } else { seconds }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_can_be_shown() {
        let ten = Extent::Time(Duration::from_secs(10));
        for (extent, done, expected) in [
            (Extent::Count(9), 3, "x: 3 of 9"),
            (ten, 3, "x: 3 in 4 of 10 s"),
            (ten, 0, "x: 4 of 10 s"),
            (Extent::Unknown, 0, "x"),
        ] {
            let stage = Stage { what: "x", extent };
            style(&stage);
            assert_eq!(line(&stage, done, Duration::from_millis(4_200)), expected);
        }
        let short = Stage { what: "x", extent: Extent::Time(Duration::from_millis(2_500)) };
        assert_eq!(line(&short, 1, Duration::from_secs(4)), "x: 1 in 2 of 2.5 s");
    }
}
