//! `rouse api`: the API by hand, and its description.

use super::connect::ConnectArgs;
use super::error::CliError;
use super::exit::Exit;
use super::output::{Format, Out};
use std::io::Read;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "rouse api GET /builds?limit=3\nrouse api POST /builds/5/cancel -d '{\"reason\": \"not needed\"}'\nrouse api openapi"
)]
pub(crate) struct Args {
    /// GET, POST, PUT, PATCH, DELETE; or `openapi`, which needs no master
    method: String,
    /// Below /api/v1, with its query
    path: Option<String>,
    /// A JSON body; `-` reads it from stdin
    #[arg(short, long, value_name = "JSON")]
    data: Option<String>,
}

pub(super) async fn run(args: Args, connect: &ConnectArgs, out: &mut Out) -> Result<Exit, CliError> {
    if args.method == "openapi" && args.path.is_none() {
        out.print(&crate::api::openapi_json())?;
        return Ok(Exit::Success);
    }
    let Some(path) = args.path.filter(|path| path.starts_with('/')) else {
        return Err(CliError::usage("say which path, such as: rouse api GET /builds"));
    };
    let method = match args.method.to_ascii_uppercase().as_str() {
        word @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD") => {
            reqwest::Method::from_bytes(word.as_bytes())
                .map_err(|error| CliError::usage(error.to_string()))?
        }
        word => return Err(CliError::usage(format!("`{word}` is no method: GET, POST, PUT, PATCH, DELETE"))),
    };
    let data = match args.data.as_deref() {
        Some("-") => {
            let mut body = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut body);
            read.map_err(|source| CliError::Io { what: "read the body from stdin".into(), source })?;
            Some(body)
        }
        Some(text) => Some(text.as_bytes().to_vec()),
        // Most operations that change something take an object, and no answer is an empty one.
        None if method == reqwest::Method::POST => Some(b"{}".to_vec()),
        None => None,
    };
    let mut response = connect.client()?.call(method, &path, data).await?;
    let is_json = response
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json {
        let bytes = response.bytes().await.map_err(CliError::Transport)?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(CliError::Answer)?;
        out.data(&value)?;
        return Ok(Exit::Success);
    }
    if out.format() != Format::Table {
        out.hint("this answer is no JSON; it is printed as it comes");
    }
    while let Some(chunk) = response.chunk().await.map_err(CliError::Transport)? {
        out.raw(&chunk)?;
    }
    Ok(Exit::Success)
}
