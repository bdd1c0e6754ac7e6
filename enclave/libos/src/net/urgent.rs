//! Urgent data of a TCP stream (MSG_OOB, tcp(7)): one byte, at a mark in the stream that reads stop at.
//!
//! `tcp` has one of these for each connection within the enclave; of a connection that leaves it, the host's socket does
//! all this. Invariant: the urgent byte is still in the ring, at `ahead`.

/// The last urgent byte that has arrived.
#[derive(Clone, Copy)]
pub struct Urgent {
    /// Bytes in the ring before it.
    ahead: usize,
    /// What it is, until MSG_OOB has read it.
    byte: Option<u8>,
}

/// How a read goes on: it leaves out so many bytes, and takes no more than so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The urgent byte, if it is next and not for ordinary reads.
    pub hole: usize,
    /// Up to the mark.
    pub most: usize,
}

impl Urgent {
    /// The last of `unread` bytes is urgent.
    pub fn at_end(unread: usize, byte: u8) -> Self {
        Self { ahead: unread.saturating_sub(1), byte: Some(byte) }
    }
    /// Is it the next byte?
    pub fn is_next(&self) -> bool {
        self.ahead == 0
    }
    /// Can MSG_OOB read it?
    pub fn is_unread(&self) -> bool {
        self.byte.is_some()
    }
    /// MSG_OOB reads it.
    pub fn read(&mut self, peek: bool) -> Option<u8> {
        if peek { self.byte } else { self.byte.take() }
    }
    /// The next read, where urgent bytes are `inline` (SO_OOBINLINE) or not.
    pub fn stretch(&self, inline: bool) -> Stretch {
        match self.ahead {
            0 => Stretch { hole: usize::from(!inline), most: usize::MAX },
            n => Stretch { hole: 0, most: n },
        }
    }
    /// So many bytes have left the ring; `None` once it is one of them.
    pub fn after(self, taken: usize) -> Option<Self> {
        self.ahead.checked_sub(taken).map(|ahead| Self { ahead, ..self })
    }
}
