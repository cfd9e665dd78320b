//! The way of an answer back to the connection that asked, at once or later.

use std::fmt;
use std::marker::PhantomData;

use bytes::BytesMut;
use kafka_protocol::protocol::Encodable;
use tokio::sync::oneshot;

/// What an answer is once it is typed no more: the connection writes it into its own buffer. One that writes nothing is none:
/// no response is empty.
pub(crate) type Answer = Box<dyn FnOnce(&mut BytesMut) -> Result<(), String> + Send>;

/// Where the answer to one request goes. Kept by whoever answers later; dropping it ends the connection.
pub(crate) struct Reply<R> {
    version: i16,
    sender: oneshot::Sender<Answer>,
    response: PhantomData<fn(R)>,
}

impl<R: Encodable + Send + 'static> Reply<R> {
    /// For a request of `version`; the receiver is the connection's.
    pub(crate) fn new(version: i16) -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self { version, sender, response: PhantomData }, receiver)
    }

    /// Answers; a client that is gone needs no answer.
    pub(crate) fn send(self, response: R) {
        self.send_with(move || response);
    }

    /// Answers with what is put together only where it is written to the client, outside of the broker's loop.
    pub(crate) fn send_with(self, response: impl FnOnce() -> R + Send + 'static) {
        let version = self.version;
        let answer: Answer =
            Box::new(move |out: &mut BytesMut| response().encode(out, version).map_err(|error| format!("{error:#}")));
        let _ = self.sender.send(answer);
    }

    /// Ends the request without an answer, where the client awaits none.
    pub(crate) fn send_nothing(self) {
        let _ = self.sender.send(Box::new(|_| Ok(())));
    }

    /// Whether the client is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("version", &self.version).finish_non_exhaustive()
    }
}
