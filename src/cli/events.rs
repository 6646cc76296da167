//! `rouse events`: what happened, and what happens.

use super::client::{Client, as_view};
use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{DIM, Format, Out};
use super::watch::{Backoff, interruptible};
use crate::api::views::{EventView, Listing, MasterView};
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on as they come
    #[arg(short, long)]
    follow: bool,
    /// Those after this number. Default: the last 50; with -f, those from now on
    #[arg(long, value_name = "NUMBER")]
    after: Option<i64>,
    /// Of these kinds alone, with commas between
    #[arg(short, long)]
    kind: Option<String>,
    /// About these alone, with commas between: `build/5,worker/7`
    #[arg(short, long)]
    subject: Option<String>,
}

impl Args {
    fn query(&self) -> Vec<(&'static str, String)> {
        let kind = self.kind.clone().map(|kind| ("kind", kind));
        kind.into_iter().chain(self.subject.clone().map(|subject| ("subject", subject))).collect()
    }
}

pub(super) async fn run(args: &Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    let client = connect.client()?;
    let mut place = args.after;
    if !args.follow || place.is_some() {
        place = Some(past(args, &client, out).await?);
    }
    if !args.follow {
        return Ok(Exit::Success);
    }
    let place = match place {
        Some(place) => place,
        None => newest(&client).await?,
    };
    interruptible(follow(args, &client, place, out), &format!("rouse events -f --after {place}")).await
}

async fn newest(client: &Client) -> Result<i64, CliError> {
    let master: MasterView = client.view("/master").await?;
    Ok(master.newest_event)
}

/// Everything up to now; answers how far that was.
async fn past(args: &Args, client: &Client, out: &mut Out) -> Result<i64, CliError> {
    let end = newest(client).await?;
    let mut after = args.after.unwrap_or((end - 50).max(0));
    loop {
        let mut query = args.query();
        query.push(("after", after.to_string()));
        let page: Listing<Value> = as_view(client.get("/events/list", &query).await?)?;
        for event in page.items {
            tell(event, out)?;
        }
        let next = page.next.unwrap_or(after);
        if next <= after || next >= end {
            return Ok(next.max(after));
        }
        after = next;
    }
}

async fn follow(args: &Args, client: &Client, from: i64, out: &mut Out) -> Result<Exit, CliError> {
    let mut place = from.to_string();
    let mut backoff = Backoff::default();
    loop {
        let mut stream = match client.events("/events", &args.query(), Some(&place)).await {
            Ok(stream) => stream,
            Err(error) => {
                backoff.wait(error, out).await?;
                continue;
            }
        };
        backoff.reset();
        loop {
            match stream.next().await {
                Ok(Some(message)) => {
                    if message.event == "reset" {
                        out.note("events in between are not kept any more");
                    } else {
                        tell(serde_json::from_str(&message.data).map_err(CliError::Answer)?, out)?;
                    }
                    place = message.id.unwrap_or(place);
                }
                Ok(None) | Err(CliError::Transport(_)) => break,
                Err(error) => return Err(error),
            }
        }
        backoff.pause().await;
    }
}

/// A line each: for people a sentence, else JSON, since a stream has no end to close a list at.
fn tell(event: Value, out: &mut Out) -> Result<(), CliError> {
    if out.format() != Format::Table {
        return out.print(&format!("{event}\n"));
    }
    let event: EventView = as_view(event)?;
    let payload: Vec<String> = event
        .payload
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| {
            format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    out.print(&format!(
        "{DIM}{:>6} {}{DIM:#}  {:<16} {:<14} {}\n",
        event.seq,
        event.at,
        event.kind,
        event.subject,
        payload.join(" ").replace(char::is_control, " ")
    ))
}
