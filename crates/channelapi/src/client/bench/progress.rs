//! How far a run is, on standard error: a bar where a person looks at a terminal, else a line now and then.

use std::{
    convert::Infallible,
    io::{IsTerminal, stderr},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::interval;

use super::course::{Course, Stage};

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
            match &self.bar {
                Some(bar) => {
                    if is_new {
                        bar.set_style(style(&stage));
                        bar.reset();
                        bar.set_message(stage.what);
                        stage.total.map_or_else(|| bar.unset_length(), |total| bar.set_length(total));
                    }
                    bar.set_position(done);
                    bar.tick();
                }
                None if is_new || said.elapsed() >= LINE => {
                    eprintln!("{}", line(&stage, done));
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
    let template = match stage.total {
        Some(_) => "{msg} [{bar:30}] {human_pos}/{human_len}",
        None => "{spinner} {msg}: {human_pos} in {elapsed}",
    };
    ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ")
}

fn line(stage: &Stage, done: u64) -> String {
    match stage.total {
        Some(total) => format!("{}: {done} of {total}", stage.what),
        None if done > 0 => format!("{}: {done}", stage.what),
        None => stage.what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_can_be_shown() {
        for (total, done, expected) in [(Some(9), 3, "x: 3 of 9"), (None, 3, "x: 3"), (None, 0, "x")] {
            let stage = Stage { what: "x", total };
            style(&stage);
            assert_eq!(line(&stage, done), expected);
        }
    }
}
