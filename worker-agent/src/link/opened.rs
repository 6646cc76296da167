//! Streams that the master opens: a relay that it has run beside this agent connects here, and passes on what comes from either side. Who may reach the
//! socket is not asked: over each stream the master shows its certificate, as it does on a listener.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

use tokio::net::UnixStream;

/// The one that this process listens at, for whichever thread wants a stream next. In the abstract namespace, where no step can remove it.
static LISTENER: Mutex<Option<UnixListener>> = Mutex::new(None);

/// The next stream that comes.
pub async fn accept(socket: &str) -> io::Result<UnixStream> {
    let listener = tokio::net::UnixListener::from_std(listener(socket)?)?;
    Ok(listener.accept().await?.0)
}

fn listener(socket: &str) -> io::Result<UnixListener> {
    let mut listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(listener) = &*listener {
        return listener.try_clone();
    }
    let bound = UnixListener::bind_addr(&SocketAddr::from_abstract_name(socket)?)?;
    bound.set_nonblocking(true)?;
    listener.insert(bound).try_clone()
}
