//! `rouse force` and `rouse build start`: builds by hand, through a scheduler or of a builder.

use super::client::{Client, part};
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Format, Out};
use super::watch::{interruptible, request, requests_of, within};
use crate::api::views::MadeView;
use serde_json::{Map, Value, json};

/// Waiting for the end.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitArgs {
    /// Wait for the end; the exit code says how it ended
    #[arg(short, long)]
    wait: bool,
    /// Stop waiting after so many seconds; the builds go on
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scheduler, one with `force:`; `rouse scheduler list` shows them
    scheduler: String,
    /// An answer to one of its parameters
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// The builder
    builder: String,
    /// A property of the build
    #[arg(short, long = "prop", value_name = "NAME=VALUE")]
    props: Vec<String>,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    wait: WaitArgs,
}

/// What is built, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct WhatArgs {
    /// A branch to build: `main`, or `app=main` where there are several codebases
    #[arg(short, long, value_name = "[CODEBASE=]BRANCH")]
    branch: Vec<String>,
    /// A revision to build: an object id, or `app=ID` where there are several codebases
    #[arg(short = 'R', long, value_name = "[CODEBASE=]REVISION")]
    revision: Vec<String>,
    /// Why, for whoever looks at it later
    #[arg(short, long)]
    reason: Option<String>,
    /// Higher goes first
    #[arg(long)]
    priority: Option<i64>,
    /// Calls with the same key make the builds once
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

pub(super) async fn run(args: Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let mut body = body(&args.what)?;
    body.insert("parameters".into(), Value::Object(pairs(&args.params, "--param")?));
    let path = format!("/schedulers/{}/force", part(&args.scheduler));
    send(&client, &path, &Value::Object(body), args.what.key.as_deref(), &args.wait, out).await
}

pub(super) async fn start(args: StartArgs, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let mut body = body(&args.what)?;
    body.insert("properties".into(), Value::Object(pairs(&args.props, "--prop")?));
    let path = format!("/builders/{}/build", part(&args.builder));
    send(&client, &path, &Value::Object(body), args.what.key.as_deref(), &args.wait, out).await
}

/// Posts what makes a buildset, tells what was made, and waits where that is wanted.
pub(super) async fn make(
    client: &Client,
    path: &str,
    body: &Value,
    wait: &WaitArgs,
    out: &mut Out,
) -> Result<Exit, CliError> {
    send(client, path, body, None, wait, out).await
}

async fn send(
    client: &Client,
    path: &str,
    body: &Value,
    key: Option<&str>,
    wait: &WaitArgs,
    out: &mut Out,
) -> Result<Exit, CliError> {
    // With a key of our own, a call whose answer was lost is not made twice by a retry in between.
    let key = key.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let made = client.post_once(path, body, &key).await?;
    let requests = requests_of(&made);
    out.show(made, told)?;
    let Some(first) = requests.first() else { return Ok(Exit::Success) };
    if !wait.wait {
        if out.format() == Format::Table {
            out.hint(&format!("rouse explain {first}"));
        }
        return Ok(Exit::Success);
    }
    let back = format!("rouse request show {first}");
    let waiting = async {
        let mut ends = Vec::with_capacity(requests.len());
        for id in &requests {
            ends.push(request(client, *id, out).await?);
        }
        Ok(Exit::worst(ends))
    };
    interruptible(within(wait.timeout, waiting, &back), &back).await
}

fn told(made: &MadeView) -> String {
    let mut text = String::new();
    for request in &made.requests {
        text.push_str(&format!("request {} of builder {}\n", request.id, request.builder));
    }
    if !made.fresh {
        text.push_str("they were made before, under the same key\n");
    }
    text
}

fn body(what: &WhatArgs) -> Result<Map<String, Value>, CliError> {
    let mut body = Map::new();
    let mut sources: Map<String, Value> = Map::new();
    for (texts, field) in [(&what.branch, "branch"), (&what.revision, "revision")] {
        for text in texts {
            // An object id and a branch never hold `=`; a codebase's name cannot be empty.
            let (codebase, value) = text.split_once('=').unwrap_or(("", text));
            if value.is_empty() {
                return Err(CliError::usage(format!("--{field} {text}: nothing stands after the `=`")));
            }
            let source = sources.entry(codebase).or_insert_with(|| json!({}));
            source[field] = value.into();
        }
    }
    let sources: Vec<Value> = sources
        .into_iter()
        .map(|(codebase, mut source)| {
            if !codebase.is_empty() {
                source["codebase"] = codebase.into();
            }
            source
        })
        .collect();
    body.insert("sources".into(), sources.into());
    if let Some(reason) = &what.reason {
        body.insert("reason".into(), reason.as_str().into());
    }
    if let Some(priority) = what.priority {
        body.insert("priority".into(), priority.into());
    }
    Ok(body)
}

fn pairs(texts: &[String], flag: &str) -> Result<Map<String, Value>, CliError> {
    let mut pairs = Map::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=') else {
            return Err(CliError::usage(format!("{flag} {text}: write NAME=VALUE")));
        };
        if pairs.insert(name.to_owned(), value.into()).is_some() {
            return Err(CliError::usage(format!("{flag} {name} is given twice")));
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(branch: &[&str], revision: &[&str]) -> WhatArgs {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        WhatArgs { branch: own(branch), revision: own(revision), reason: None, priority: None, key: None }
    }

    #[test]
    fn branches_and_revisions_of_one_codebase_come_together() {
        let sent = body(&what(&["main", "lib=v2"], &["lib=4f1c"])).unwrap();
        assert_eq!(
            Value::Object(sent),
            json!({"sources": [{"branch": "main"}, {"branch": "v2", "revision": "4f1c", "codebase": "lib"}]})
        );
        assert!(body(&what(&["lib="], &[])).is_err());
    }

    #[test]
    fn answers_are_pairs_given_once() {
        assert_eq!(Value::Object(pairs(&["a=b=c".into()], "--param").unwrap()), json!({"a": "b=c"}));
        assert!(pairs(&["a".into()], "--param").is_err());
        assert!(pairs(&["a=1".into(), "a=2".into()], "--param").is_err());
    }
}
