//! The logs of a command: that of its own output, and those of the files that its step has followed. Made with the command, sealed with its
//! outcome.

use super::action::{self, Stored};
use super::state::{DriveError, State};
use super::turn::Turn;
use crate::render::{self, RenderError};
use futures::future::try_join_all;
use rouse_agent_protocol as wire;
use rouse_model::LogId;
use rouse_model::build::Command;
use rouse_model::event::EventKind;
use rouse_model::logs::Log;
use rouse_model::plan::{self, FileLog};

/// What a step says whose worker's agent is older than the feature.
pub(super) const LACKING: &str = "its files are not kept as logs: this worker's agent cannot follow files";

/// The files of a step as its agent is asked for them: below the step's folder, and none of one that cannot follow any.
pub(super) fn files(state: &State, run: &plan::Run, folder: &str) -> Result<Vec<wire::FileLog>, RenderError> {
    if run.logs.is_empty() || !state.knows(wire::FILE_LOGS) {
        return Ok(Vec::new());
    }
    let file = |log: &FileLog| {
        let path = action::join(folder, &render::path(&log.path, &state.scope)?.text);
        // It is numbered once it is known that the command is made.
        Ok(wire::FileLog { path, stream: wire::StreamId(0) })
    };
    run.logs.iter().map(file).collect()
}

/// All logs that a command writes, as its row says, that of its own output first.
pub(super) fn logs_of(command: &Command) -> Vec<LogId> {
    if command.log.0 == 0 {
        return Vec::new();
    }
    let stored = serde_json::from_str::<Stored>(&command.action);
    let streams = stored.map(|stored| stored.action.streams()).unwrap_or_default();
    let files = streams.into_iter().skip(1).map(|stream| LogId(stream.0));
    std::iter::once(command.log).chain(files).collect()
}

/// Whether the step's command ran without the logs that the step is to have.
pub(super) fn lacks_files(state: &State, index: usize) -> bool {
    let wanted = names(state, index);
    let ran = state.commands_of(index).into_iter().next();
    !wanted.is_empty() && ran.is_some_and(|command| logs_of(command).len() == 1)
}

fn names(state: &State, index: usize) -> Vec<&str> {
    let run = state.plan.steps[index].action.run();
    run.into_iter().flat_map(|run| &run.logs).map(|log| log.name.as_str()).collect()
}

impl Turn<'_> {
    /// Gives the files that a command is to have followed their logs' ids.
    pub(super) async fn number_files(&self, stored: &mut Stored) -> Result<(), DriveError> {
        if let wire::Action::Run(run) = &mut stored.action {
            for file in &mut run.logs {
                let log: LogId = self.ctx.store.next_id().await?;
                file.stream = wire::StreamId(log.0);
            }
        }
        Ok(())
    }

    /// Puts the logs of a command on record. Those of files that are not followed say so from the beginning.
    pub(super) async fn insert_logs(
        &mut self,
        state: &State,
        index: usize,
        seq: i64,
        streams: &[wire::StreamId],
    ) -> Result<(), DriveError> {
        let Some((own, files)) = streams.split_first() else { return Ok(()) };
        let stdio = if seq == 0 { "stdio".to_owned() } else { format!("stdio-{seq}") };
        let row = self.insert_log(state, index, LogId(own.0), stdio, None);
        self.opens.push(row);
        let mut files = files.iter();
        for name in names(state, index) {
            if let Some(file) = files.next() {
                let row = self.insert_log(state, index, LogId(file.0), name.to_owned(), None);
                self.opens.push(row);
            } else {
                let id = self.ctx.store.next_id().await?;
                self.insert_log(state, index, id, name.to_owned(), Some(LACKING.to_owned()));
            }
        }
        Ok(())
    }

    /// A log with a note gets nothing but that.
    fn insert_log(
        &mut self,
        state: &State,
        index: usize,
        id: LogId,
        name: String,
        note: Option<String>,
    ) -> Log {
        let (build, step) = (state.build.id, state.steps[index].id);
        let begun = Log::begun(id, (build, step), name, self.now);
        let row = Log { sealed: note.is_some(), note, ..begun };
        self.batch.insert(&row);
        let payload = serde_json::json!({"build": build, "step": step, "name": row.name});
        self.event(state, EventKind::LogMade, format!("log/{id}"), payload);
        row
    }

    /// Seals the logs of a command where its outcome says that they end.
    pub(super) async fn seal_at_end(
        &mut self,
        state: &State,
        logs: &[LogId],
        outcome: &wire::Outcome,
    ) -> Result<(), DriveError> {
        let most = self.ctx.logs.most();
        let ends = logs.iter().map(|log| {
            let end = outcome.streams.iter().find(|end| end.stream.0 == log.0);
            (*log, end.map_or(0, |end| end.to), end.and_then(|end| end.note.clone()))
        });
        let ends: Vec<_> = ends.collect();
        self.cut = ends.iter().any(|(_, end, _)| *end > most).then_some(most);
        self.seal(state, ends).await
    }

    /// Each log with its end, and what is to be said of it. What has not come yet of any is waited for at once.
    pub(super) async fn seal(
        &mut self,
        state: &State,
        ends: Vec<(LogId, u64, Option<String>)>,
    ) -> Result<(), DriveError> {
        let logs: Vec<LogId> = ends.iter().map(|(log, ..)| *log).collect();
        let parts = ends.into_iter().map(|(log, end, note)| self.ctx.logs.seal(log, end, note));
        for (log, part) in logs.into_iter().zip(try_join_all(parts).await?) {
            self.batch.append(part);
            let payload = serde_json::json!({"build": state.build.id});
            self.event(state, EventKind::LogSealed, format!("log/{log}"), payload);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_may_have_as_many_files_as_a_command() {
        assert_eq!(crate::config::MAX_FILE_LOGS, wire::MAX_FILE_LOGS);
    }

    #[test]
    fn a_commands_logs_are_those_of_its_row() {
        let row = |log: i64, action: &str| Command {
            id: rouse_model::CommandId(1),
            build: rouse_model::BuildId(1),
            step: rouse_model::StepId(1),
            seq: 0,
            worker: rouse_model::WorkerId(1),
            incarnation: String::new(),
            log: LogId(log),
            state: rouse_model::build::CommandState::Wanted,
            action: action.to_owned(),
            outcome: None,
            stop: None,
            generation: 0,
        };
        let run = r#"{"action":{"run":{"program":{"argv":["make"]},"stream":7,"logs":[{"path":"a","stream":8},{"path":"b","stream":9}]}}}"#;
        assert_eq!(logs_of(&row(7, run)), [LogId(7), LogId(8), LogId(9)]);
        assert_eq!(
            logs_of(&row(7, r#"{"action":{"run":{"program":{"argv":["make"]},"stream":7}}}"#)),
            [LogId(7)]
        );
        assert_eq!(logs_of(&row(7, "not to be read")), [LogId(7)]);
        assert_eq!(logs_of(&row(0, r#"{"action":{"paths":{"ops":[]}}}"#)), []);
    }
}
