//! The way of an answer back to the connection that asked, at once or later.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use tokio::sync::oneshot;

use crate::budget::{Account, FREE_BYTES, Hold};
use crate::state::{State, Work};

/// An answer is an int32, which has no room for more.
const MAX_ANSWER_BYTES: usize = i32::MAX as usize;

/// What a connection gets for a request.
pub(crate) enum Answer {
    /// The client awaits none.
    Nothing,
    /// It is written as it is; what it takes in memory is held until then.
    Frame(BytesMut, Option<Hold>),
    /// It is put together where it is written to the client, outside of the broker's loop.
    Unfinished(Box<dyn FnOnce() -> Result<BytesMut, String> + Send>, Option<Hold>),
    /// There was no room to put it together. The request is carried out again with so many bytes.
    NeedsRoom(usize, Again),
}

/// A request that is to be carried out once more, with room for its answer.
pub(crate) type Again = Box<dyn FnOnce(Hold) -> (Work, oneshot::Receiver<Answer>) + Send>;

/// A request, as far as its answer has to do with it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) account: Arc<Account>,
    /// What the request takes in memory, if it is large.
    pub(crate) held: Option<Hold>,
}

/// Where the answer to one request goes. Kept by whoever answers later; dropping it ends the connection.
pub(crate) struct Reply<R> {
    asked: Asked,
    /// The room that was waited for.
    granted: Option<Hold>,
    sender: oneshot::Sender<Answer>,
    response: PhantomData<fn(R)>,
}

impl<R: Encodable + HeaderVersion + Send + 'static> Reply<R> {
    /// For a request; the receiver is the connection's.
    pub(crate) fn to(asked: Asked) -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self { asked, granted: None, sender, response: PhantomData }, receiver)
    }

    /// Answers; a client that is gone needs no answer.
    pub(crate) fn send(self, response: R) {
        let Self { asked: Asked { version, correlation_id, account, .. }, sender, .. } = self;
        match frame(version, correlation_id, &response) {
            Ok(frame) => {
                let hold = (frame.len() > FREE_BYTES).then(|| account.hold(frame.len()));
                let _ = sender.send(Answer::Frame(frame, hold));
            }
            Err(reason) => {
                let _ = sender.send(Answer::Unfinished(Box::new(|| Err(reason)), None));
            }
        }
    }

    /// Answers with what is put together only where it is written to the client, outside of the broker's loop, and takes what is held
    /// for it in memory.
    pub(crate) fn send_with(self, hold: Option<Hold>, response: impl FnOnce() -> R + Send + 'static) {
        let Self { asked: Asked { version, correlation_id, .. }, sender, .. } = self;
        let _ = sender.send(Answer::Unfinished(Box::new(move || frame(version, correlation_id, &response())), hold));
    }

    /// Has the request carried out again, once there are so many bytes for its answer.
    pub(crate) fn needs_room(self, bytes: usize, work: impl FnOnce(&mut State, Self) + Send + 'static) {
        let Self { asked, sender, .. } = self;
        let again: Again = Box::new(move |hold| {
            let (sender, receiver) = oneshot::channel();
            let reply = Self { asked, granted: Some(hold), sender, response: PhantomData };
            (Box::new(move |state, _| work(state, reply)), receiver)
        });
        let _ = sender.send(Answer::NeedsRoom(bytes, again));
    }

    /// Ends the request without an answer, where the client awaits none.
    pub(crate) fn send_nothing(self) {
        let _ = self.sender.send(Answer::Nothing);
    }

    /// How many bytes an answer can have now.
    pub(crate) fn room(&self) -> usize {
        let granted = self.granted.as_ref().map_or(0, Hold::bytes);
        granted.saturating_add(self.asked.account.room()).max(FREE_BYTES)
    }

    /// Holds so many bytes for the answer, none if it is small; an error if there is no room.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<Option<Hold>, ()> {
        if bytes <= FREE_BYTES {
            return Ok(None);
        }
        match self.granted.take() {
            Some(mut granted) => {
                granted.resize(bytes);
                Ok(Some(granted))
            }
            None => self.asked.account.try_hold(bytes).map(Some).ok_or(()),
        }
    }

    /// Whether the request is a large one.
    pub(crate) fn is_to_large_request(&self) -> bool {
        self.asked.held.is_some()
    }

    /// The request is no more, though its answer is still to come.
    pub(crate) fn request_dropped(&mut self) {
        self.asked.held = None;
    }

    /// Whether the client is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A response as it goes over the wire, in exactly the memory that it needs.
fn frame<R: Encodable + HeaderVersion>(version: i16, correlation_id: i32, response: &R) -> Result<BytesMut, String> {
    let reason = |error| format!("{error:#}");
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    let header_version = R::header_version(version);
    let bytes =
        header.compute_size(header_version).map_err(reason)? + response.compute_size(version).map_err(reason)?;
    let length = i32::try_from(bytes).map_err(|_| format!("{bytes} bytes, and {MAX_ANSWER_BYTES} are the limit"))?;
    let mut out = BytesMut::with_capacity(size_of::<i32>() + bytes);
    out.put_i32(length);
    header.encode(&mut out, header_version).map_err(reason)?;
    response.encode(&mut out, version).map_err(reason)?;
    Ok(out)
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("asked", &self.asked).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::budget::Budget;

    impl Asked {
        /// A small request of `version`, with all the room there is.
        pub(crate) fn for_tests(version: i16) -> Self {
            Self { version, correlation_id: 1, account: Budget::new(usize::MAX / 2).open(), held: None }
        }
    }

    /// The body of an answer, behind the length and the header; empty where there is none.
    pub(crate) fn body(answer: Answer, header_version: i16) -> Result<Bytes, String> {
        let frame = match answer {
            Answer::Nothing => return Ok(Bytes::new()),
            Answer::Frame(frame, _) => frame,
            Answer::Unfinished(complete, _) => complete()?,
            Answer::NeedsRoom(bytes, _) => return Err(format!("no room for {bytes} bytes")),
        };
        let length = i32::from_be_bytes(frame[..4].try_into().map_err(|_| "a length")?);
        assert_eq!(length as usize, frame.len() - 4, "what was told and what came");
        Ok(frame.freeze().slice(if header_version == 0 { 8 } else { 9 }..))
    }
}
