//! Layer 5: the root of a store, in two blocks that are written in turns.
use crate::bytes;
use crate::device::BLOCK;
use crate::error::{Error, Part};
use crate::guard::{Digest, Gcm, Guard, Kind, Place, SEAL, Seal};
use crate::io::Entry;
use crate::keys::{self, Key, WRAPPED};
use alloc::boxed::Box;

const MAGIC: &[u8; 8] = b"OCLMSEAL";
/// Version of the format.
const VERSION: u32 = 1;
/// The public header: magic, version, form, id. It is authenticated with everything else.
pub(crate) const HEADER: usize = 32;
const WRAPPED_AT: usize = 32;
const SEAL_AT: usize = 96;
const BODY_AT: usize = 128;
/// Form: integrity only.
const FORM_DIGEST: u32 = 0;
/// Form: AES-256-GCM.
const FORM_GCM: u32 = 1;

/// What a superblock says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    pub(crate) generation: u64,
    pub(crate) total: u64,
    pub(crate) journal_blocks: u64,
    pub(crate) map_height: u32,
    pub(crate) space_height: u32,
    pub(crate) map: Entry,
    pub(crate) space: Entry,
}

/// What stays the same in all superblocks of a store.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) public: [u8; HEADER],
    pub(crate) wrapped: [u8; WRAPPED],
    pub(crate) data_key: Option<[u8; 32]>,
}

impl Header {
    pub(crate) fn new(id: &[u8; 16], data_key: Option<[u8; 32]>) -> Self {
        let mut public = [0; HEADER];
        public[..8].copy_from_slice(MAGIC);
        public[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let form = if data_key.is_some() { FORM_GCM } else { FORM_DIGEST };
        public[12..16].copy_from_slice(&form.to_le_bytes());
        public[16..].copy_from_slice(id);
        Self { public, wrapped: [0; WRAPPED], data_key }
    }
    pub(crate) fn id(&self) -> [u8; 16] {
        bytes::array(&self.public, 16)
    }
    /// Wraps the data key by `root`.
    pub(crate) fn wrap(&mut self, root: &[u8; 32], nonce: [u8; 12]) {
        if let Some(key) = &self.data_key {
            self.wrapped = keys::wrap(root, &self.id(), &self.public, key, nonce);
        }
    }
    pub(crate) fn guard(&self, nonce: [u8; 12]) -> Box<dyn Guard + Send> {
        match &self.data_key {
            Some(key) => Box::new(Gcm::new(key, nonce)),
            None => Box::new(Digest),
        }
    }
}

fn place(slot: u64) -> Place {
    Place { kind: Kind::Super, level: 0, index: slot }
}

/// The block for `slot`, and its seal.
pub(crate) fn encode(header: &Header, body: &Body, slot: u64, guard: &mut dyn Guard) -> ([u8; BLOCK], Seal) {
    let mut block = [0; BLOCK];
    bytes::put(&mut block, 0, &header.public);
    bytes::put(&mut block, WRAPPED_AT, &header.wrapped);
    let mut plain = [0; BLOCK - BODY_AT];
    let plain = &mut plain[..];
    bytes::put(plain, 0, &body.generation.to_le_bytes());
    bytes::put(plain, 8, &body.total.to_le_bytes());
    bytes::put(plain, 16, &body.journal_blocks.to_le_bytes());
    bytes::put(plain, 24, &body.map_height.to_le_bytes());
    bytes::put(plain, 28, &body.space_height.to_le_bytes());
    body.map.write(plain, 32);
    body.space.write(plain, 64);
    let seal = guard.seal(&place(slot), &header.public, plain, &mut block[BODY_AT..]);
    bytes::put(&mut block, SEAL_AT, &seal);
    (block, seal)
}

/// Takes a superblock apart, with the key that opens the store.
pub(crate) fn decode(block: &[u8; BLOCK], slot: u64, key: Key<'_>) -> Result<(Header, Body, Seal), Error> {
    if &block[..8] != MAGIC {
        return Err(Error::NotAStore);
    }
    let (version, form) = (bytes::get32(block, 8), bytes::get32(block, 12));
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let mut header = Header::new(&bytes::array(block, 16), None);
    (header.public, header.wrapped) = (bytes::array(block, 0), bytes::array(block, WRAPPED_AT));
    match (form, key) {
        (FORM_DIGEST, Key::None) => {}
        (FORM_GCM, Key::Root(root)) => {
            let data_key = keys::unwrap(root, &header.id(), &header.public, &header.wrapped);
            header.data_key = Some(data_key.ok_or(Error::WrongKey)?);
        }
        (FORM_DIGEST | FORM_GCM, _) => return Err(Error::WrongForm),
        _ => return Err(Error::NotAStore),
    }
    let mut plain = [0; BLOCK - BODY_AT];
    let seal: [u8; SEAL] = bytes::array(block, SEAL_AT);
    if !header.guard([0; 12]).open(&place(slot), &header.public, &block[BODY_AT..], &mut plain, &seal) {
        return Err(Error::Damaged(Part::Superblock));
    }
    let body = Body {
        generation: bytes::get64(&plain, 0),
        total: bytes::get64(&plain, 8),
        journal_blocks: bytes::get64(&plain, 16),
        map_height: bytes::get32(&plain, 24),
        space_height: bytes::get32(&plain, 28),
        map: Entry::read(&plain, 32),
        space: Entry::read(&plain, 64),
    };
    Ok((header, body, seal))
}
