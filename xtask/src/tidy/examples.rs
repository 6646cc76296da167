//! Configurations shown in the documents are ones that the master accepts.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Faults;
use crate::workspace::Workspace;

pub fn check(workspace: &Workspace) -> Result<Faults> {
    let mut faults = Faults::new();
    if !workspace.master_knows(&["config", "check"])? {
        return Ok(faults);
    }
    for file in workspace.files()? {
        if file.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let Some(text) = workspace.text(&file)? else { continue };
        for (line, config) in configs(&text) {
            if let Some(why) = refused(workspace, &config)? {
                faults.push(format!("{}:{line}: the example is not accepted:\n{why}", file.display()));
            }
        }
    }
    Ok(faults)
}

fn refused(workspace: &Workspace, config: &str) -> Result<Option<String>> {
    let mut command = workspace.master();
    command
        .args(["config", "check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("the master could not be asked")?;
    let mut input = child.stdin.take().context("the child has an input")?;
    input.write_all(config.as_bytes()).context("the example could not be handed over")?;
    drop(input);
    let output = child.wait_with_output().context("the master did not answer")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&said).trim().to_string()))
}

/// Fenced `yaml` blocks that are whole configurations, with the line that they begin on.
fn configs(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start();
        match &mut block {
            None if fence.starts_with("```yaml") => block = Some((index + 2, String::new())),
            None => {}
            Some(_) if fence.starts_with("```") => {
                found.extend(block.take().filter(|(_, text)| is_whole(text)))
            }
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    found
}

/// The first line that is no comment says the version.
fn is_whole(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.starts_with("version: 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_configurations_are_found_with_their_line() {
        let text = "a\n```yaml\n# note\nversion: 1\npools: {}\n```\n```yaml\npools: {}\n```\n```sh\nversion: 1\n```\n";
        assert_eq!(configs(text), [(3, "# note\nversion: 1\npools: {}\n".to_string())]);
    }
}
