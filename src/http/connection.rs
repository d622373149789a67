//! Connections of the pages: few at a time, and none for long, so that strangers cannot use up what the service needs.
//!
//! Promise: somebody who asks at once is answered, however many others are connected and do not ask or do not read.
//!
//! - A connection is for one request. Its head must be complete within [`HEAD_TIME`] and fit into [`HEAD_BYTES`].
//!   No body is read. A connection that waits for its first or next request counts as one without a complete head.
//! - When all places are taken, the longest unfinished connection goes for the new one: first those that have their
//!   answer, then those without a complete head, then those that do not take their answer; of each the oldest. At
//!   most half of the places are kept for those that take their answers.
//!
//! Missing on purpose: a share for each address. On the loopback address and behind a router everybody has the same
//! one, and somebody with an IPv6 network has as many as they like.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A dozen people and two Prometheus servers need a few; the rest are for clients that would take
/// them all. Each costs a file and, until its answer is taken, the answer: some 100 kB.
const MOST: usize = 128;
/// This many of those who take their answers keep their places while others have not asked.
const MOST_PROTECTED: usize = MOST / 2;
/// A client that asks at all asks within milliseconds; on a bad line, within a second.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// What browsers send, with the cookies of everything else on this host: they do not tell ports apart.
const HEAD_BYTES: usize = 16 * 1024;
/// An answer that is not taken by then is cut off, from the connection's beginning.
const LONGEST: Duration = Duration::from_secs(20);
/// This long a connection has its place in any case: what was sent with it must have the time to arrive. Those for
/// which there is no place meanwhile wait in the system's queue.
const LEAST: Duration = Duration::from_millis(50);
/// For data that the client has sent and nobody reads: closing at once would make the system
/// discard the answer.
const LINGER: Duration = Duration::from_secs(1);
/// Nothing can be accepted (there are no files left, say): asking again at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How far a connection is. The order is that in which they go when places are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Phase {
    /// It has its answer.
    Answered,
    /// Its head is not complete.
    Unfinished,
    /// It takes its answer.
    Answering,
}

/// The stage that a connection's task notes and the listener reads.
#[derive(Debug, Clone)]
struct RequestProgress(Arc<AtomicU8>);

impl RequestProgress {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Phase::Unfinished as u8)))
    }

    fn reaches(&self, stage: Phase) {
        // No other memory is guarded by it.
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    fn stage(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            stage if stage == Phase::Answered as u8 => Phase::Answered,
            stage if stage == Phase::Unfinished as u8 => Phase::Unfinished,
            _ => Phase::Answering,
        }
    }
}

/// A connection as the listener sees it.
struct Tracked {
    task: AbortHandle,
    progress: RequestProgress,
    since: Instant,
}

/// All of them, in the order in which they came.
#[derive(Default)]
struct Places(Vec<Tracked>);

impl Places {
    /// Ends one of them, where all are taken.
    async fn make_room(&mut self) {
        loop {
            self.0.retain(|place| !place.task.is_finished());
            if self.0.len() < MOST {
                return;
            }
            match self.next_to_go(Instant::now()) {
                Ok(index) => self.0.remove(index).task.abort(),
                Err(until) => sleep_until(until).await,
            }
        }
    }

    /// The one that goes next, or when there is one: all that could go have only just come.
    fn next_to_go(&self, now: Instant) -> Result<usize, Instant> {
        let staged = self.0.iter().map(|place| (place.progress.stage(), place.since)).enumerate();
        let (mut answering, mut spare): (Vec<_>, Vec<_>) =
            staged.partition(|(_, (stage, _))| *stage == Phase::Answering);
        // Slow readers must leave enough places for others to come and go.
        let surplus = answering.len().saturating_sub(MOST_PROTECTED);
        spare.extend(answering.drain(..surplus));
        let old = spare.iter().filter(|(_, (_, since))| *since + LEAST <= now);
        // Of equal ones the first, which is the oldest.
        match old.min_by_key(|(_, (stage, _))| *stage) {
            Some((index, _)) => Ok(*index),
            None => Err(spare.iter().map(|(_, (_, since))| *since + LEAST).min().unwrap_or(now)),
        }
    }

    /// Ends those that have not asked, or have their answer.
    fn keep_answering(&mut self) {
        for place in self.0.drain(..) {
            if place.progress.stage() != Phase::Answering {
                place.task.abort();
            }
        }
    }
}

/// Answers every connection until `stopped`; then the requests that were read are still answered.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    stopped: impl Future<Output = ()>,
) {
    let mut places = Places::default();
    let mut tasks = JoinSet::new();
    let mut stopped = pin!(stopped);
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
            // So that what has ended takes no memory.
            Some(_) = tasks.join_next() => continue,
        };
        let ready = async {
            match &accepted {
                Ok(_) => places.make_room().await,
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        };
        tokio::select! {
            () = &mut stopped => break,
            () = ready => {}
        }
        // What could not be accepted is for the next attempt: there is nobody to answer.
        let Ok((stream, _)) = accepted else { continue };
        let progress = RequestProgress::new();
        let task = tasks.spawn(until_the_end(stream, router.clone(), progress.clone()));
        places.0.push(Tracked { task, progress, since: Instant::now() });
    }
    drop(listener);
    places.keep_answering();
    while tasks.join_next().await.is_some() {}
}

async fn until_the_end(stream: TcpStream, router: Router, progress: RequestProgress) {
    // A small answer should not wait for more to be sent with it.
    _ = stream.set_nodelay(true);
    if let Ok(stream) = timeout(LONGEST, answer(stream, router, &progress)).await {
        progress.reaches(Phase::Answered);
        _ = timeout(LINGER, part(stream)).await;
    }
}

/// Answers one request, or says why it cannot be read. Returns what is left to be closed.
async fn answer(stream: TcpStream, router: Router, progress: &RequestProgress) -> TcpStream {
    let pages = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        progress.reaches(Phase::Answering);
        pages.call(request)
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A head that cannot be read has been answered with the reason; a client that is gone cannot be
    // answered.
    _ = (&mut connection).await;
    connection.into_parts().io.into_inner()
}

/// Says that nothing more comes, and waits until the client has heard it.
async fn part(mut stream: TcpStream) {
    let mut unread = [0; 4096];
    if stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut unread).await, Ok(1..)) {}
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use bytes::Bytes;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    /// More than the system keeps of an answer that nobody takes.
    const LARGE: usize = 16 * 1024 * 1024;
    /// Whatever is waited for here comes within seconds, [`LONGEST`] at most.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// Pages of which one is large. They end with what is returned, and then so does the task.
    async fn pages() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let large = Bytes::from("x".repeat(LARGE));
        let router = Router::new()
            .route("/large", get(async move || large))
            .route("/healthz", get(async || "alive"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, closed) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, router, async move { _ = closed.await }));
        (address, open, server)
    }

    async fn asks(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Everything until the connection ends, one way or the other.
    async fn rest(mut stream: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = async { while matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {} };
        timeout(DEADLINE, read).await.expect("the server ends it");
        bytes
    }

    /// Asked again where it was cut off before it could ask, as a monitoring system would do.
    async fn is_alive(address: SocketAddr) {
        let asked =
            async { while !rest(asks(address, "/healthz").await).await.ends_with(b"alive") {} };
        timeout(DEADLINE, asked).await.expect("it answers");
    }

    /// Waits for the beginning of the answer and reads no further.
    async fn begins_to_read(stream: &mut TcpStream) {
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 8);
    }

    /// This many connections of a stage, which came at a time.
    fn places(number: usize, stage: Phase, since: Instant) -> Vec<Tracked> {
        let place = |_| {
            let progress = RequestProgress::new();
            progress.reaches(stage);
            Tracked { task: tokio::spawn(async {}).abort_handle(), progress, since }
        };
        (0..number).map(place).collect()
    }

    #[tokio::test]
    async fn the_answered_go_first_then_the_unfinished_then_slow_readers_beyond_half_of_the_places()
    {
        let came = Instant::now();
        let now = came + LEAST;
        let next = |stages: &[(usize, Phase)]| {
            let all = stages.iter().flat_map(|(number, stage)| places(*number, *stage, came));
            Places(all.collect()).next_to_go(now)
        };
        let (answered, unfinished, answering) =
            (Phase::Answered, Phase::Unfinished, Phase::Answering);
        assert_eq!(next(&[(9, answering), (2, unfinished), (1, answered)]), Ok(11));
        assert_eq!(next(&[(MOST_PROTECTED, answering), (2, unfinished)]), Ok(MOST_PROTECTED));
        assert_eq!(next(&[(MOST, answering)]), Ok(0));
        assert_eq!(next(&[(MOST_PROTECTED, answering)]), Err(now));
    }

    #[tokio::test]
    async fn a_connection_that_has_only_just_come_keeps_its_place_for_a_moment() {
        let came = Instant::now();
        let crowd = Places(places(MOST, Phase::Unfinished, came));

        assert_eq!(crowd.next_to_go(came), Err(came + LEAST));
        assert_eq!(crowd.next_to_go(came + LEAST), Ok(0));
    }

    #[tokio::test]
    async fn a_large_answer_arrives_whole() {
        let (address, _open, _) = pages().await;

        let bytes = rest(asks(address, "/large").await).await;

        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(bytes.len() - head, LARGE);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_ends_in_time() {
        let (address, open, server) = pages().await;
        let mut reader = asks(address, "/large").await;
        begins_to_read(&mut reader).await;

        drop(open);
        let ended = timeout(DEADLINE, server).await;

        ended.expect("it does not wait for ever").unwrap();
        assert!(rest(reader).await.len() < LARGE);
    }

    #[tokio::test]
    async fn whoever_does_not_take_the_answer_goes_when_all_places_are_taken_the_oldest_first() {
        let (address, _open, _) = pages().await;
        let mut readers = Vec::new();
        for _ in 0..MOST {
            let mut reader = asks(address, "/large").await;
            begins_to_read(&mut reader).await;
            readers.push(reader);
        }

        is_alive(address).await;

        let youngest = readers.pop().unwrap();
        assert!(rest(readers.remove(0)).await.len() < LARGE, "the oldest was cut off");
        assert!(rest(youngest).await.len() > LARGE, "the youngest gets it all");
    }

    #[tokio::test]
    async fn whoever_has_not_asked_goes_before_whoever_reads_slowly() {
        let (address, _open, _) = pages().await;
        let mut reader = asks(address, "/large").await;
        begins_to_read(&mut reader).await;
        let mut silent = Vec::new();
        for _ in 0..2 * MOST {
            silent.push(TcpStream::connect(address).await.unwrap());
        }

        is_alive(address).await;

        assert!(rest(reader).await.len() > LARGE, "the older reader is not cut off");
        for stream in silent {
            assert!(rest(stream).await.is_empty());
        }
    }

    #[tokio::test]
    async fn a_stop_ends_those_who_have_not_asked_and_waits_for_an_answer_under_way() {
        let (address, open, server) = pages().await;
        let mut reader = asks(address, "/large").await;
        begins_to_read(&mut reader).await;
        let silent = TcpStream::connect(address).await.unwrap();
        is_alive(address).await;

        drop(open);

        assert!(rest(silent).await.is_empty());
        // On a busy machine its time to ask may have ended before the stop was noticed.
        let refused = async { while TcpStream::connect(address).await.is_ok() {} };
        timeout(DEADLINE, refused).await.expect("nobody is let in any more");
        assert!(rest(reader).await.len() > LARGE);
        timeout(DEADLINE, server).await.expect("nobody is left").unwrap();
    }
}
