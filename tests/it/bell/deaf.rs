//! A listener that hears nothing, as behind a pooler in transaction mode: it is noticed, reported,
//! and worked around.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TestBell, eventually};

/// A proxy that lets everything through except notifications (message type A).
pub struct NoNotices {
    pub port: u16,
    /// Notifications that were kept back.
    kept_back: Arc<AtomicUsize>,
    /// Connections that were kept from hearing something, and have ended since.
    ended: Arc<AtomicUsize>,
}

impl NoNotices {
    pub async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (kept_back, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let proxy = Self { port, kept_back: kept_back.clone(), ended: ended.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
                tokio::spawn(pass(client, server, kept_back.clone(), ended.clone()));
            }
        });
        proxy
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    kept_back: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let forth = tokio::spawn(async move {
        _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        _ = to_server.shutdown().await;
    });
    let mut deaf = false;
    let mut head = [0; 5];
    // Every message of a server: one byte of type, four of length (with themselves), then the rest.
    while from_server.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        if from_server.read_exact(&mut body).await.is_err() {
            break;
        }
        if head[0] == b'A' {
            deaf = true;
            kept_back.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        if to_client.write_all(&head).await.is_err() || to_client.write_all(&body).await.is_err() {
            break;
        }
    }
    forth.abort();
    if deaf {
        ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_listener_that_hears_nothing_is_found_out_never_armed_and_polling_delivers() {
    let mut bell = TestBell::installed().await;
    let proxy = NoNotices::start(bell.cluster().port()).await;
    let url = format!(
        "postgres://postgres@127.0.0.1:{}/{}?sslmode=disable",
        proxy.port, bell.source_name
    );
    bell.source_through(&url);
    bell.service_starts();

    // The canary is kept back; the service gives that connection up.
    eventually("the deaf connection is given up", || async {
        let counts = (proxy.kept_back.load(Ordering::SeqCst), proxy.ended.load(Ordering::SeqCst));
        if counts.0 >= 1 && counts.1 >= 1 { Ok(()) } else { Err(counts) }
    })
    .await;
    let school = bell.insert_school("Acme").await;

    bell.target_becomes("select editoruuid__c from salesforce.editor__c", &[&school]).await;
    assert!(!bell.armed().await, "an armed bell makes writers ring for the deaf");
}
