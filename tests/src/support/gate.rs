//! A TCP address that leads to another one while it is open, and nowhere while it is closed.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Closed at first.
#[derive(Debug)]
pub struct Gate {
    addr: SocketAddr,
    open: watch::Sender<bool>,
    accept: JoinHandle<()>,
}

impl Gate {
    /// # Panics
    /// When there is no port.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("no port");
        let addr = listener.local_addr().expect("no address");
        let open = watch::Sender::new(false);
        let accept = tokio::spawn(accept(listener, target, open.subscribe()));
        Self { addr, open, accept }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Cuts what passes, and lets nothing in.
    pub fn close(&self) {
        self.open.send_replace(false);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, open: watch::Receiver<bool>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut open = open.clone();
        if !*open.borrow_and_update() {
            continue;
        }
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = open.wait_for(|open| !open) => {}
            }
        });
    }
}
