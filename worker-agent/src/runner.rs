//! Commands, each at most once: a thread of its own for each one that is accepted, its outcome into the shared state.

use std::sync::Arc;

use rouse_agent_protocol::masking::Masks;
use rouse_agent_protocol::{Action, Command, FailureClass, Hidden, MAX_MESSAGE_BYTES, Outcome, OutcomeKind};

use crate::clock;
use crate::control::Control;
use crate::files;
use crate::host::Host;
use crate::paths;
use crate::pool::{Pool, Scratch};
use crate::process::{self, Place, RunError};
use crate::state::{Shared, outcome};

pub struct Runner {
    host: Arc<Host>,
    shared: Arc<Shared>,
    pool: Pool,
}

impl Runner {
    pub fn new(host: Arc<Host>, shared: Arc<Shared>) -> Self {
        Self { host, shared, pool: Pool::default() }
    }

    /// Run a command unless its id is known. Returns at once.
    pub fn run(&self, command: Command) {
        let Some(control) = self.shared.update(|state| state.accept(&command)) else { return };
        let id = command.id;
        let (host, shared) = (self.host.clone(), self.shared.clone());
        let job = move |scratch: &mut Scratch| {
            let outcome = perform(&host, &shared, &control, &command, scratch);
            shared.update(|state| state.finished(command.id, outcome));
        };
        if let Err(error) = self.pool.run(job) {
            let message = format!("the agent could not start a thread for the command: {error}");
            let kind = OutcomeKind::Failed { message, class: FailureClass::Infrastructure };
            self.shared.update(|state| state.finished(id, outcome(kind, now())));
        }
    }
}

fn now() -> (u64, i64) {
    (clock::monotonic_us(), clock::wall_us())
}

fn perform(
    host: &Host,
    shared: &Shared,
    control: &Arc<Control>,
    command: &Command,
    scratch: &mut Scratch,
) -> Outcome {
    let masks = Masks::new(command.masks.iter().map(Hidden::reveal));
    let oom_before = host.oom.count();
    let mut started = now();
    let mut begin = || {
        started = now();
        shared.update(|state| state.started(command.id, started.0, started.1));
    };
    let mut done = match &command.action {
        Action::Run(run) => {
            let place = Place { shared, control, command, masks: &masks };
            let ended = process::run(host, &place, run, scratch, begin);
            ran(ended, started)
        }
        Action::Paths(wanted) => {
            begin();
            outcome(paths::perform(&host.work_dir, wanted), started)
        }
        Action::Upload(upload) => {
            begin();
            outcome(files::upload(host, control, upload), started)
        }
        Action::Download(download) => {
            begin();
            outcome(files::download(host, control, download), started)
        }
    };
    done.oom_killed = host.oom.count() > oom_before;
    done.no_room = match failed(&done.kind) {
        true => done.no_room.or_else(|| host.disk.full()),
        false => None,
    };
    mask(&mut done.kind, &masks);
    for note in done.streams.iter_mut().filter_map(|end| end.note.as_mut()) {
        *note = shorten(masks.mask_text(note));
    }
    done
}

fn ran(ended: Result<process::Ended, RunError>, started: (u64, i64)) -> Outcome {
    match ended {
        Ok(ended) => Outcome {
            max_rss_bytes: Some(ended.exit.max_rss_bytes),
            cpu_us: Some(ended.exit.cpu_us),
            leftovers: ended.leftovers,
            no_room: ended.no_room,
            streams: ended.files,
            ..outcome(ended.kind, started)
        },
        Err(RunError::CouldNotStart(message)) => outcome(OutcomeKind::CouldNotStart { message }, started),
        Err(RunError::Machine { step, source }) => {
            let message = format!("the agent could not {step}: {source}");
            outcome(OutcomeKind::Failed { message, class: FailureClass::Infrastructure }, started)
        }
    }
}

/// In a way that a full disk may have to do with.
fn failed(kind: &OutcomeKind) -> bool {
    match kind {
        OutcomeKind::Exited { code } => *code != 0,
        OutcomeKind::Signalled { .. } | OutcomeKind::CouldNotStart { .. } | OutcomeKind::Failed { .. } => {
            true
        }
        OutcomeKind::TimedOut { .. }
        | OutcomeKind::Silent { .. }
        | OutcomeKind::Stopped { .. }
        | OutcomeKind::PathsDone { .. }
        | OutcomeKind::Transferred { .. } => false,
    }
}

/// Messages may quote what the command was given, secrets included, and at any length.
fn mask(kind: &mut OutcomeKind, masks: &Masks) {
    match kind {
        OutcomeKind::CouldNotStart { message } | OutcomeKind::Failed { message, .. } => {
            *message = shorten(masks.mask_text(message));
        }
        OutcomeKind::PathsDone { listings } => {
            listings
                .iter_mut()
                .flat_map(|l| &mut l.entries)
                .for_each(|entry| entry.path = masks.mask_text(&entry.path));
        }
        OutcomeKind::Transferred { files } => {
            files.iter_mut().for_each(|file| file.path = masks.mask_text(&file.path))
        }
        OutcomeKind::Exited { .. }
        | OutcomeKind::Signalled { .. }
        | OutcomeKind::TimedOut { .. }
        | OutcomeKind::Silent { .. }
        | OutcomeKind::Stopped { .. } => {}
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_signs() {
        let text = shorten("ü".repeat(MAX_MESSAGE_BYTES));
        assert!(text.len() <= MAX_MESSAGE_BYTES && text.ends_with("ü…"));
        assert_eq!(shorten("short".into()), "short");
    }
}
