//! A wire between the store and its server that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Proxy {
    pub address: SocketAddr,
    target: SocketAddr,
    open: Option<JoinHandle<()>>,
    cut: watch::Sender<u64>,
    swallow: Arc<AtomicBool>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy =
            Self { address, target, open: None, cut: watch::Sender::new(0), swallow: Arc::default() };
        proxy.serve(listener);
        proxy
    }

    fn serve(&mut self, listener: TcpListener) {
        let (target, cut, swallow) = (self.target, self.cut.clone(), Arc::clone(&self.swallow));
        self.open = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut cut, swallow) = (cut.subscribe(), Arc::clone(&swallow));
                tokio::spawn(async move {
                    tokio::select! {
                        _ = cut.changed() => {}
                        () = pass(client, target, &swallow) => {}
                    }
                });
            }
        }));
    }

    /// Every connection breaks, and new ones are refused.
    pub async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            let _ = open.await;
        }
        self.cut.send_modify(|n| *n += 1);
    }

    /// Lets everybody in again, at the same address.
    pub async fn reopen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    /// The next COMMIT reaches the server, and its connection breaks before the answer comes back.
    pub fn swallow_next_answer(&self) {
        self.swallow.store(true, Ordering::SeqCst);
    }

    /// Whether it has happened.
    pub fn has_swallowed(&self) -> bool {
        !self.swallow.load(Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, target: SocketAddr, swallow: &AtomicBool) {
    let server = TcpStream::connect(target).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            let commits = buffer[..n].windows(6).any(|w| w == b"COMMIT");
            if to_server.write_all(&buffer[..n]).await.is_err() {
                return;
            }
            if commits && swallow.swap(false, Ordering::SeqCst) {
                return;
            }
        }
    };
    let back = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    // Whichever end closes first closes the other.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}
