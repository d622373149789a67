//! A TCP proxy between the program and a server, for what a network does: it passes, stalls, cuts, refuses, and it
//! can count.

use std::io;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::wire::{Conversation, Counter, Traffic};

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both sides get a reset.
    Reset,
    /// Both sides see the connection closed, as if by the other.
    Close,
    /// The server sees that the client will send no more; its answers still pass.
    HalfToServer,
    /// The client sees that the server will send no more; its requests still pass.
    HalfToClient,
    /// The server's side is closed. The client learns it only when bytes flow again.
    BehindTheClientsBack,
}

#[derive(Debug, Clone, Copy)]
struct State {
    flows: bool,
    refuses: bool,
    cuts: u64,
    how: Cut,
    /// How often the connections of the moment were stranded.
    strands: u64,
}

impl State {
    /// Whether bytes pass on a connection that began after this many strandings.
    fn passes(&self, strands: u64) -> bool {
        self.flows && self.strands == strands
    }
}

/// Listens on a port of its own, and ends with its value.
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    counter: Counter,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Passes everything on to that port of this machine.
    pub async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, states) = watch::channel(State {
            flows: true,
            refuses: false,
            cuts: 0,
            how: Cut::Close,
            strands: 0,
        });
        let counter = Counter::default();
        let all = counter.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !states.borrow().refuses {
                    tokio::spawn(carry(client, server_port, states.clone(), all.clone()));
                }
            }
        });
        Self { port, state, counter, task }
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// What was asked through it so far, by clients that use no TLS.
    pub fn traffic(&self) -> Traffic {
        self.counter.traffic()
    }

    /// Ends the connections that exist; new ones are passed on.
    pub fn cut(&self, how: Cut) {
        self.state.send_modify(|state| (state.cuts, state.how) = (state.cuts + 1, how));
    }

    /// No byte passes until further notice, in either direction, and not that a side has closed either.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.flows = false);
    }

    /// No byte passes ever again on the connections that exist, though both ends stay open; new ones pass.
    pub fn strand(&self) {
        self.state.send_modify(|state| state.strands += 1);
    }

    /// New connections are closed at once.
    pub fn refuse(&self) {
        self.state.send_modify(|state| state.refuses = true);
    }

    /// Everything passes again.
    pub fn pass(&self) {
        self.state.send_modify(|state| (state.flows, state.refuses) = (true, false));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, until either side or a cut ends it.
async fn carry(
    mut client: TcpStream,
    server_port: u16,
    mut states: watch::Receiver<State>,
    counter: Counter,
) {
    let State { cuts: before, strands, .. } = *states.borrow();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server_port)).await else { return };
    _ = (client.set_nodelay(true), server.set_nodelay(true));
    let conversation = Mutex::new(Conversation::new(counter));
    let asks = |bytes: &[u8]| conversation.lock().unwrap().client_sends(bytes);
    let answers = |bytes: &[u8]| conversation.lock().unwrap().server_sends(bytes);
    let how = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, states.clone(), strands, asks);
        let down = pump(from_server, to_client, states.clone(), strands, answers);
        tokio::select! {
            _ = async { tokio::join!(up, down) } => return,
            cut = states.wait_for(|state| state.cuts > before) => match cut {
                Ok(state) => state.how,
                Err(_) => return,
            },
        }
    };
    match how {
        Cut::Close => {}
        Cut::Reset => _ = (client.set_zero_linger(), server.set_zero_linger()),
        Cut::HalfToServer => {
            _ = server.shutdown().await;
            let (from_server, to_client) = (server.split().0, client.split().1);
            _ = pump(from_server, to_client, states, strands, answers).await;
        }
        Cut::HalfToClient => {
            _ = client.shutdown().await;
            let (from_client, to_server) = (client.split().0, server.split().1);
            _ = pump(from_client, to_server, states, strands, asks).await;
        }
        Cut::BehindTheClientsBack => {
            drop(server);
            _ = states.wait_for(|state| state.passes(strands)).await;
        }
    }
}

/// One direction of a connection, until it ends.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut states: watch::Receiver<State>,
    strands: u64,
    seen: impl Fn(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if states.wait_for(|state| state.passes(strands)).await.is_err() || read == 0 {
            return to.shutdown().await;
        }
        // First: the receiver may answer before this continues.
        seen(&buffer[..read]);
        to.write_all(&buffer[..read]).await?;
    }
}
