//! The memory in which large requests come until they are complete, and large answers wait to be read.
//!
//! An allocator keeps what lies between things that live longer: after clients have sent half of many requests, or read none of many answers, and gone, the
//! process would be as large as ever. So these bytes are in slabs of their own, which are so large that allocators take each from the system
//! and give it back as a whole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

/// What is filled before the next piece is taken.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Above the 32 MiB up to which glibc may take memory from what it keeps. What is not touched is address space only.
const SLAB_PIECES: usize = 33 * 1024 * 1024 / PIECE_BYTES;

/// The slabs that are in use.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Mutex<Vec<Slab>>);

#[derive(Debug)]
struct Slab {
    id: u64,
    free: Vec<BytesMut>,
}

/// A piece of a slab; it goes back there when it is dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: BytesMut,
    slab: u64,
    pieces: Arc<Pieces>,
}

impl Pieces {
    /// An empty piece.
    pub(crate) fn take(self: &Arc<Self>) -> Piece {
        let mut slabs = self.slabs();
        let (slab, bytes) = match slabs.iter_mut().find_map(|slab| Some((slab.id, slab.free.pop()?))) {
            Some(found) => found,
            None => {
                let id = slabs.last().map_or(0, |last| last.id + 1);
                let mut rest = BytesMut::with_capacity(SLAB_PIECES * PIECE_BYTES);
                let mut free = Vec::with_capacity(SLAB_PIECES);
                for _ in 1..SLAB_PIECES {
                    let next = rest.split_off(PIECE_BYTES);
                    free.push(std::mem::replace(&mut rest, next));
                }
                // The first ones of a slab are taken first.
                free.reverse();
                slabs.push(Slab { id, free });
                (id, rest)
            }
        };
        Piece { bytes, slab, pieces: self.clone() }
    }

    fn slabs(&self) -> MutexGuard<'_, Vec<Slab>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut slabs = self.pieces.slabs();
        let Some(at) = slabs.iter().position(|slab| slab.id == self.slab) else { return };
        slabs[at].free.push(bytes);
        if slabs[at].free.len() == SLAB_PIECES {
            slabs.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_filled_before_others_are_begun_and_go_when_they_are_empty() {
        let pieces = Arc::new(Pieces::default());
        let slabs = || pieces.slabs().len();
        let mut taken: Vec<Piece> = (0..2 * SLAB_PIECES).map(|_| pieces.take()).collect();
        assert!(taken.iter().all(|piece| piece.bytes.is_empty() && piece.bytes.capacity() == PIECE_BYTES));
        assert_eq!(slabs(), 2);
        taken[7].bytes.extend_from_slice(b"left over");
        drop(taken.remove(7));
        let again = pieces.take();
        assert!(again.bytes.is_empty() && again.bytes.capacity() == PIECE_BYTES);
        assert_eq!(slabs(), 2);
        taken.truncate(SLAB_PIECES);
        assert_eq!(slabs(), 2, "two pieces of the second one are still in use");
        taken.pop();
        assert_eq!(slabs(), 1);
        drop((taken, again));
        assert_eq!(slabs(), 0);
    }
}
