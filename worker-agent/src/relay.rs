//! `rouse-agent relay`: what comes on the standard input goes to the agent that listens at a socket, and what it says to the standard output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

/// How long an agent that has just been started may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Returns once either side has ended.
pub fn run(socket: &str) -> io::Result<()> {
    let mut to_agent = connect(socket)?;
    let mut from_agent = to_agent.try_clone()?;
    // Past the buffers, which wait for the end of a line.
    let mut from_master = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut to_master = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (ended, either) = std::sync::mpsc::channel();
    let here = ended.clone();
    std::thread::spawn(move || here.send(pass_on(&mut from_master, &mut to_agent)));
    std::thread::spawn(move || ended.send(pass_on(&mut from_agent, &mut to_master)));
    either.recv().unwrap_or(Ok(()))
}

/// Each piece at once: the library's own copying asks the kernel to move as much as it can, which waits for more than there is.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            length => to.write_all(&piece[..length])?,
        }
    }
}

fn connect(socket: &str) -> io::Result<UnixStream> {
    let address = SocketAddr::from_abstract_name(socket)?;
    let began = Instant::now();
    loop {
        match UnixStream::connect_addr(&address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && began.elapsed() < PATIENCE => {
                std::thread::sleep(LOOK);
            }
            connected => return connected,
        }
    }
}
