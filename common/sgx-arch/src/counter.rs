//! Trusted monotonic counters: what an enclave asks of one, what it answers, what it keeps.
//!
//! Neighbours: the LibOS' sealed stores ask, the simulated CPU in `host/pal` answers; a service over the network
//! would answer the same bytes. Nobody in between is trusted: requests and answers carry HMAC-SHA256 under a key that
//! only the enclave's identity derives; an answer's covers the request's nonce, so that it answers this request only.
//! Invariants: a counter changes only by one, and only if it stands where the request says; numbers are little-endian.
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of what a counter keeps beside its value: id, generation, commits and seal of a store.
pub const STATE: usize = 60;
/// Bytes of a request.
pub const REQUEST: usize = REQUEST_HEAD + MAC;
/// Bytes of an answer.
pub const ANSWER: usize = ANSWER_HEAD + MAC;
/// Bytes of a counter at rest.
pub const RECORD: usize = RECORD_HEAD + MAC;

const MAC: usize = 32;
const REQUEST_HEAD: usize = 48 + STATE;
const ANSWER_HEAD: usize = 16 + STATE;
const RECORD_HEAD: usize = 16 + STATE;
const MAGIC: &[u8; 8] = b"OCCLCTR1";

/// Key of all counters of an enclave, from its seal key.
pub fn key(seal_key: &[u8; 16]) -> [u8; 32] {
    mac(seal_key, &[b"occlum counter v1"])
}

/// Which counter an enclave uses for the store at `target` of the instance that the host calls `instance`.
pub fn slot(seal_key: &[u8; 16], instance: &[u8], target: &[u8]) -> [u8; 16] {
    let length = (instance.len() as u64).to_le_bytes();
    let all = mac(seal_key, &[b"occlum counter slot v1", &length, instance, target]);
    core::array::from_fn(|i| all[i])
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// How the counter stands.
    Read = 0,
    /// One more, with another state, if it stands at `from`. A counter that is not there stands at 0.
    Advance = 1,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub op: Op,
    /// KEYPOLICY of the seal key that the messages' key comes from.
    pub policy: u16,
    /// Which counter.
    pub slot: [u8; 16],
    /// Drawn for this request.
    pub nonce: [u8; 16],
    /// Where the counter has to stand.
    pub from: u64,
    /// What it keeps from then on.
    pub state: [u8; STATE],
}

impl Request {
    /// The wire form.
    pub fn seal(&self, key: &[u8; 32]) -> [u8; REQUEST] {
        let mut b = [0; REQUEST];
        b[..4].copy_from_slice(&(self.op as u32).to_le_bytes());
        b[4..6].copy_from_slice(&self.policy.to_le_bytes());
        b[8..24].copy_from_slice(&self.slot);
        b[24..40].copy_from_slice(&self.nonce);
        b[40..48].copy_from_slice(&self.from.to_le_bytes());
        b[48..REQUEST_HEAD].copy_from_slice(&self.state);
        let tag = mac(key, &[b"request", &b[..REQUEST_HEAD]]);
        b[REQUEST_HEAD..].copy_from_slice(&tag);
        b
    }
    /// From the wire; `None` if it is not from an enclave with this key.
    pub fn open(b: &[u8; REQUEST], key: &[u8; 32]) -> Option<Self> {
        check(key, &[b"request", &b[..REQUEST_HEAD]], &b[REQUEST_HEAD..])?;
        let op = match array(b, 0).map(u32::from_le_bytes)? {
            0 => Op::Read,
            1 => Op::Advance,
            _ => return None,
        };
        Some(Self {
            op,
            policy: policy(b),
            slot: array(b, 8)?,
            nonce: array(b, 24)?,
            from: u64::from_le_bytes(array(b, 40)?),
            state: array(b, 48)?,
        })
    }
}

/// The KEYPOLICY in a request, before its MAC can be checked.
pub fn policy(request: &[u8; REQUEST]) -> u16 {
    u16::from_le_bytes([request[4], request[5]])
}

/// A counter that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// How often it was advanced.
    pub value: u64,
    /// What it keeps.
    pub state: [u8; STATE],
}

impl Record {
    /// What the counter keeps at rest.
    pub fn seal(&self, slot: &[u8; 16], key: &[u8; 32]) -> [u8; RECORD] {
        let mut b = [0; RECORD];
        b[..8].copy_from_slice(MAGIC);
        b[8..16].copy_from_slice(&self.value.to_le_bytes());
        b[16..RECORD_HEAD].copy_from_slice(&self.state);
        let tag = mac(key, &[b"record", slot, &b[..RECORD_HEAD]]);
        b[RECORD_HEAD..].copy_from_slice(&tag);
        b
    }
    /// The counter; `None` if it is not what was kept there.
    pub fn open(b: &[u8; RECORD], slot: &[u8; 16], key: &[u8; 32]) -> Option<Self> {
        check(key, &[b"record", slot, &b[..RECORD_HEAD]], &b[RECORD_HEAD..])?;
        if !b.starts_with(MAGIC) {
            return None;
        }
        Some(Self { value: u64::from_le_bytes(array(b, 8)?), state: array(b, 16)? })
    }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is no such counter.
    Absent,
    /// It stands so; after `Advance`, because it was advanced.
    Stands(Record),
    /// It was not advanced: it stands so, and not at `from`.
    Moved(Record),
    /// What the counter kept was changed by somebody.
    Damaged,
}

impl Answer {
    /// The wire form of the answer to `request`.
    pub fn seal(&self, request: &Request, key: &[u8; 32]) -> [u8; ANSWER] {
        let none = Record { value: 0, state: [0; STATE] };
        let (status, record) = match self {
            Self::Absent => (0u32, none),
            Self::Stands(r) => (1, *r),
            Self::Moved(r) => (2, *r),
            Self::Damaged => (3, none),
        };
        let mut b = [0; ANSWER];
        b[..4].copy_from_slice(&status.to_le_bytes());
        b[8..16].copy_from_slice(&record.value.to_le_bytes());
        b[16..ANSWER_HEAD].copy_from_slice(&record.state);
        let tag = mac(key, &[b"answer", &request.seal(key), &b[..ANSWER_HEAD]]);
        b[ANSWER_HEAD..].copy_from_slice(&tag);
        b
    }
    /// From the wire; `None` if it is no answer of the counter to this request.
    pub fn open(b: &[u8; ANSWER], request: &Request, key: &[u8; 32]) -> Option<Self> {
        check(key, &[b"answer", &request.seal(key), &b[..ANSWER_HEAD]], &b[ANSWER_HEAD..])?;
        let record = Record { value: u64::from_le_bytes(array(b, 8)?), state: array(b, 16)? };
        match array(b, 0).map(u32::from_le_bytes)? {
            0 => Some(Self::Absent),
            1 => Some(Self::Stands(record)),
            2 => Some(Self::Moved(record)),
            3 => Some(Self::Damaged),
            _ => None,
        }
    }
}

/// How a counter serves a request: the answer, and what it keeps from now on, if that changes. `kept`: what it keeps,
/// `None` if there is no such counter.
pub fn serve(kept: Option<&[u8]>, request: &Request, key: &[u8; 32]) -> (Answer, Option<Record>) {
    let found = match kept {
        None => None,
        Some(bytes) => {
            let bytes = <&[u8; RECORD]>::try_from(bytes).ok();
            match bytes.and_then(|b| Record::open(b, &request.slot, key)) {
                None => return (Answer::Damaged, None),
                found => found,
            }
        }
    };
    match (request.op, found) {
        (Op::Read, None) => (Answer::Absent, None),
        (Op::Read, Some(record)) => (Answer::Stands(record), None),
        (Op::Advance, found) => {
            let stands = found.unwrap_or(Record { value: 0, state: [0; STATE] });
            match stands.value.checked_add(1) {
                Some(value) if stands.value == request.from => {
                    let next = Record { value, state: request.state };
                    (Answer::Stands(next), Some(next))
                }
                _ => (Answer::Moved(stands), None),
            }
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac)
}
/// HMAC takes keys of any length, so there always is one.
fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC] {
    hmac(key, parts).map_or([0; MAC], |mac| mac.finalize().into_bytes().into())
}
fn check(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> Option<()> {
    hmac(key, parts)?.verify_slice(tag).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    fn request(op: Op, from: u64) -> Request {
        Request { op, policy: 1, slot: [1; 16], nonce: [2; 16], from, state: [3; STATE] }
    }

    #[test]
    fn a_counter_goes_up_by_one_and_only_from_where_it_stands() {
        let read = request(Op::Read, 0);
        assert_eq!(serve(None, &read, &KEY), (Answer::Absent, None));
        let (answer, kept) = serve(None, &request(Op::Advance, 0), &KEY);
        let record = Record { value: 1, state: [3; STATE] };
        assert_eq!((answer, kept), (Answer::Stands(record), Some(record)));
        let kept = record.seal(&[1; 16], &KEY);
        assert_eq!(serve(Some(&kept), &read, &KEY), (Answer::Stands(record), None));
        for from in [0, 2, u64::MAX] {
            assert_eq!(serve(Some(&kept), &request(Op::Advance, from), &KEY), (Answer::Moved(record), None));
        }
        let last = Record { value: u64::MAX, ..record };
        let kept = last.seal(&[1; 16], &KEY);
        assert_eq!(serve(Some(&kept), &request(Op::Advance, u64::MAX), &KEY), (Answer::Moved(last), None));
    }

    #[test]
    fn every_flipped_bit_of_the_record_is_noticed_and_so_is_another_slot() {
        let kept = Record { value: 9, state: [3; STATE] }.seal(&[1; 16], &KEY);
        for bit in 0..RECORD * 8 {
            let mut other = kept;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(serve(Some(&other), &request(Op::Read, 0), &KEY), (Answer::Damaged, None));
        }
        for length in 0..RECORD {
            assert_eq!(serve(Some(&kept[..length]), &request(Op::Read, 0), &KEY).0, Answer::Damaged);
        }
        let elsewhere = Request { slot: [4; 16], ..request(Op::Read, 0) };
        assert_eq!(serve(Some(&kept), &elsewhere, &KEY).0, Answer::Damaged);
    }

    #[test]
    fn requests_and_answers_that_were_changed_or_belong_elsewhere_are_none() {
        let asked = request(Op::Advance, 8);
        let wire = asked.seal(&KEY);
        assert_eq!(Request::open(&wire, &KEY), Some(asked));
        assert_eq!(Request::open(&wire, &[8; 32]), None);
        for bit in 0..REQUEST * 8 {
            let mut other = wire;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Request::open(&other, &KEY), None);
        }
        let record = Record { value: 9, state: [3; STATE] };
        for answer in [Answer::Absent, Answer::Stands(record), Answer::Moved(record), Answer::Damaged] {
            let wire = answer.seal(&asked, &KEY);
            assert_eq!(Answer::open(&wire, &asked, &KEY), Some(answer));
            for bit in 0..ANSWER * 8 {
                let mut other = wire;
                other[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Answer::open(&other, &asked, &KEY), None);
            }
            let later = Request { nonce: [5; 16], ..asked };
            assert_eq!(Answer::open(&wire, &later, &KEY), None, "an answer that was given before");
            assert_eq!(Answer::open(&wire, &Request { op: Op::Read, ..asked }, &KEY), None);
            assert_eq!(Answer::open(&wire, &Request { slot: [6; 16], ..asked }, &KEY), None);
        }
    }

    #[test]
    fn slots_depend_on_enclave_instance_and_target() {
        let one = slot(&[1; 16], b"a", b"/b");
        assert_ne!(one, slot(&[2; 16], b"a", b"/b"));
        assert_ne!(one, slot(&[1; 16], b"a/", b"b"));
        assert_ne!(one, slot(&[1; 16], b"a", b"/c"));
    }
}
