//! Counts what passes between clients and a server. It reads the frames of the protocol, and nothing in them.

use std::collections::VecDeque;
use std::ops::Sub;
use std::sync::{Arc, Mutex};

/// A kind and a length.
const HEAD: usize = 5;
/// Stands for the kind of the message that has none.
const STARTUP: u8 = b'\0';

/// What was asked so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How often somebody began to wait for the server: questions that are sent together count once.
    pub round_trips: u64,
    /// Statements that were carried out; what goes as one simple query (`begin; set …`) counts once.
    pub statements: u64,
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            round_trips: self.round_trips - before.round_trips,
            statements: self.statements - before.statements,
        }
    }
}

/// The traffic of several connections together.
#[derive(Clone, Default)]
pub struct Counter(Arc<Mutex<Traffic>>);

impl Counter {
    pub fn traffic(&self) -> Traffic {
        *self.0.lock().unwrap()
    }
}

/// One connection.
pub struct Conversation {
    counter: Counter,
    from_client: Frames,
    from_server: Frames,
    /// The client is in the middle of a question.
    asking: bool,
    /// For each question that was asked in full and is not answered: whether somebody waits for the answer.
    unanswered: VecDeque<bool>,
    /// Whether somebody waits for the answer to the question that is being asked.
    awaited: bool,
}

impl Conversation {
    pub fn new(counter: Counter) -> Self {
        // The first message of a connection is the only one without a kind.
        let from_client = Frames { head: vec![STARTUP], rest: 0 };
        let from_server = Frames { head: Vec::new(), rest: 0 };
        let unanswered = VecDeque::new();
        Self { counter, from_client, from_server, asking: false, awaited: false, unanswered }
    }

    /// To be reported before the server is.
    pub fn client_sends(&mut self, bytes: &[u8]) {
        let mut traffic = self.counter.0.lock().unwrap();
        self.from_client.each(bytes, |kind| {
            if !self.asking {
                // The driver gives up a statement, or the connection, and continues.
                self.awaited = !matches!(kind, b'C' | b'X');
                let waits_already = self.unanswered.contains(&true);
                traffic.round_trips += u64::from(self.awaited && !waits_already);
            }
            // A simple query, an execution.
            traffic.statements += u64::from(matches!(kind, b'Q' | b'E'));
            // Besides the startup, a simple query and a sync end a question.
            self.asking = !matches!(kind, STARTUP | b'Q' | b'S');
            if !self.asking {
                self.unanswered.push_back(self.awaited);
            }
        });
    }

    /// To be reported before the client is.
    pub fn server_sends(&mut self, bytes: &[u8]) {
        self.from_server.each(bytes, |kind| {
            // Ready for the next query, or for the rows of a COPY.
            if matches!(kind, b'Z' | b'G') {
                self.unanswered.pop_front();
            }
        });
    }
}

/// Finds the messages in a stream that comes in pieces.
struct Frames {
    /// What is there of the next message's kind and length.
    head: Vec<u8>,
    /// This much of the message is still to come.
    rest: usize,
}

impl Frames {
    fn each(&mut self, mut bytes: &[u8], mut found: impl FnMut(u8)) {
        while !bytes.is_empty() {
            let wanted = if self.rest > 0 { self.rest } else { HEAD - self.head.len() };
            let (piece, others) = bytes.split_at(wanted.min(bytes.len()));
            bytes = others;
            if self.rest > 0 {
                self.rest -= piece.len();
                continue;
            }
            self.head.extend(piece);
            if let &[kind, a, b, c, d] = self.head.as_slice() {
                found(kind);
                // The length counts itself.
                self.rest = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                self.head.clear();
            }
        }
    }
}
