//! Records on their way out: built in one buffer, handed to the host in pieces.
//!
//! Invariants: the buffer holds whole records, but for the one that is being built; a record for which there is no memory
//! is dropped whole and counted, and the host is told.
use alloc::vec::Vec;
use occlum_enclave_abi::{OCALL_DATA_MAX, Ocall, RECORD_HEAD, Record as Kind};
use occlum_rt::bkl::BklCell;
use occlum_rt::mem::TryGrow;

/// So many bytes are handed over at once.
const FULL: usize = 32 << 10;
/// `Ocall::Log`: the sink of records.
const SINK: u64 = 1;

struct Buffer {
    bytes: Vec<u8>,
    lost: u64,
}
static BUFFER: BklCell<Buffer> = BklCell::new(Buffer { bytes: Vec::new(), lost: 0 });

/// One record.
pub(super) struct Builder {
    bytes: Vec<u8>,
    failed: bool,
}

impl Builder {
    /// Its head, for a process and thread (0: of none).
    pub(super) fn new(kind: Kind, pid: i32, tid: i32) -> Self {
        let mut b = Self { bytes: Vec::new(), failed: false };
        b.u32(0);
        b.u32(kind as u32);
        b.u32(pid as u32);
        b.u32(tid as u32);
        b.u64(crate::time::realtime_ns());
        debug_assert_eq!(b.bytes.len(), RECORD_HEAD);
        b
    }
    pub(super) fn bytes(&mut self, data: &[u8]) {
        if self.bytes.try_room(data.len()).is_err() {
            self.failed = true;
        } else {
            self.bytes.extend_from_slice(data);
        }
    }
    pub(super) fn u32(&mut self, v: u32) {
        self.bytes(&v.to_le_bytes());
    }
    pub(super) fn u64(&mut self, v: u64) {
        self.bytes(&v.to_le_bytes());
    }
    /// Its length before the bytes.
    pub(super) fn counted(&mut self, data: &[u8]) {
        self.u32(data.len() as u32);
        self.bytes(data);
    }
    /// It is complete.
    pub(super) fn end(mut self) {
        let length = self.bytes.len() as u32;
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = length.to_le_bytes();
        }
        let kept = !self.failed
            && BUFFER.with_mut(|b| {
                let room = b.bytes.try_room(self.bytes.len()).is_ok();
                if room {
                    b.bytes.extend_from_slice(&self.bytes);
                }
                room
            });
        if !kept {
            BUFFER.with_mut(|b| b.lost += 1);
        }
        if !kept || BUFFER.with(|b| b.bytes.len() >= FULL) {
            flush();
        }
    }
}

/// Hands what there is to the host.
pub fn flush() {
    let (bytes, lost) = BUFFER.with_mut(|b| (core::mem::take(&mut b.bytes), core::mem::take(&mut b.lost)));
    for piece in bytes.chunks(OCALL_DATA_MAX) {
        occlum_rt::ocall::call(Ocall::Log, &[SINK], piece, &mut []);
    }
    if lost != 0 {
        let mut b = Builder::new(Kind::Lost, 0, 0);
        b.u64(lost);
        // If there is no memory for this either, it is counted and told the next time.
        b.end_now();
    }
}

impl Builder {
    /// Hands this record over by itself.
    fn end_now(mut self) {
        let length = self.bytes.len() as u32;
        match self.bytes.first_chunk_mut() {
            Some(place) if !self.failed => {
                *place = length.to_le_bytes();
                occlum_rt::ocall::call(Ocall::Log, &[SINK], &self.bytes, &mut []);
            }
            _ => BUFFER.with_mut(|b| b.lost += 1),
        }
    }
}
