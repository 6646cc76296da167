//! Past the master, by its leave: large files to and from its object store itself. Whatever does not work so goes by the master, which is asked
//! first and told afterwards; nothing that a store says is believed but that it has taken a file.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use hyper::body::Incoming;
use hyper::header::LOCATION;
use hyper::{Method, Request, Response};
use rouse_agent_protocol::{
    DIRECT_LEAST_BYTES, Download, FailureClass, KEPT_HEADER, OutcomeKind, SHA256_HEADER, SIZE_HEADER, Upload,
};

use super::http::{Client, HttpError};

/// More is no leave.
const MAX_LEAVE: usize = 16 * 1024;

/// Whether the file is kept now; where it is not, it is sent to the master.
pub fn put(
    client: &mut Client<'_>,
    upload: &Upload,
    url: &str,
    file: &mut File,
    size: u64,
    sha256: &str,
) -> Result<bool, OutcomeKind> {
    if !upload.direct || size < DIRECT_LEAST_BYTES || client.avoids_store {
        return Ok(false);
    }
    let post = |client: &mut Client<'_>, id: &str| -> Result<Option<String>, OutcomeKind> {
        let said = client.persist(|client| {
            let mut request = super::upload::request(Method::POST, upload, url);
            request = request.header(SIZE_HEADER, size).header(SHA256_HEADER, sha256);
            if !id.is_empty() {
                request = request.header(KEPT_HEADER, id);
            }
            let body = client.file_body(None, 0);
            let response = client.exchange(request.body(body).map_err(super::upload::odd)?)?;
            text(client, response)
        });
        match said {
            Ok(said) => Ok(Some(said)),
            // What the master will not do so it may do otherwise; what is the user's failure stays it.
            Err(OutcomeKind::Failed { class: FailureClass::Infrastructure, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    };
    let leave = post(client, "")?.unwrap_or_default();
    let mut lines = leave.lines();
    let (Some(id), Some(place)) = (lines.next(), lines.next()) else { return Ok(false) };
    if let Err(error) = send(client, place, lines, file, size) {
        if matches!(error, HttpError::Stopped) {
            return Err(client.stopped());
        }
        client.avoids_store |= error.is_no_way();
        return Ok(false);
    }
    Ok(post(client, id)?.is_some())
}

fn send(
    client: &mut Client<'_>,
    place: &str,
    headers: std::str::Lines<'_>,
    file: &mut File,
    size: u64,
) -> Result<(), HttpError> {
    let local = |error: io::Error| {
        HttpError::Final(format!("read the file again: {error}"), FailureClass::Infrastructure)
    };
    file.seek(SeekFrom::Start(0)).map_err(local)?;
    let body = client.file_body(Some(file.try_clone().map_err(local)?), size);
    let mut request = Request::builder().method(Method::PUT);
    for (name, value) in headers.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    client.exchange_at(place, request, body).map(drop)
}

fn text(client: &mut Client<'_>, response: Response<Incoming>) -> Result<String, HttpError> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = client.chunk(&mut body)?
        && bytes.len() < MAX_LEAVE
    {
        bytes.extend_from_slice(&piece);
    }
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// The rest of a file from where the master's answer points to; none where it does not, or where that leads nowhere.
pub fn follow(
    client: &mut Client<'_>,
    download: &Download,
    answer: &Response<Incoming>,
    offset: u64,
) -> Result<Option<Response<Incoming>>, HttpError> {
    let place = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
    let Some(place) = place.filter(|_| download.direct) else { return Ok(None) };
    let mut request = Request::builder().method(Method::GET);
    if offset > 0 {
        request = request.header("range", format!("bytes={offset}-"));
    }
    let body = client.file_body(None, 0);
    match client.exchange_at(place, request, body) {
        Ok(response) => Ok(Some(response)),
        Err(HttpError::Stopped) => Err(HttpError::Stopped),
        Err(error) => {
            client.avoids_store = true;
            drop(error);
            Ok(None)
        }
    }
}
