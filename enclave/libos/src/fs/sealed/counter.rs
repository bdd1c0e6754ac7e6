//! The trusted counter of a sealed layer: what it stands at is the newest state of the store.
//!
//! Neighbours: `occlum_sgx_arch::counter` (the messages), `crate::seal` (key and slot), `sealed-disk` (asks and advances).
//! Invariant: nothing that the host returns is believed but an answer that carries the counter's MAC over this request.
use alloc::string::String;
use occlum_enclave_abi::Ocall;
use occlum_sealed_fs::disk::{Distrust, Error, Freshness, Mark};
use occlum_sgx_arch::counter::{ANSWER, Answer, Op, Record, Request, STATE};

/// Where a counter is and under which key it answers.
#[derive(Clone)]
pub struct Slot {
    /// Which one.
    pub slot: [u8; 16],
    /// Of its messages.
    pub key: [u8; 32],
    /// KEYPOLICY of the seal key that `key` comes from.
    pub policy: u16,
}

/// What a counter says before a store is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// There is none: no store was made here.
    Absent,
    /// A store was to be made, and may have been.
    Reserved,
    /// There is a store.
    Counted,
}

/// A counter in use.
pub(super) struct Counter {
    at: Slot,
    /// What it was last seen at.
    seen: u64,
}

impl Counter {
    pub(super) fn new(at: Slot) -> Self {
        Self { at, seen: 0 }
    }

    fn ask(&self, op: Op, state: [u8; STATE]) -> Result<Answer, Error> {
        let mut nonce = [0; 16];
        occlum_rt::random::fill(&mut nonce);
        let (policy, slot) = (self.at.policy, self.at.slot);
        let request = Request { op, policy, slot, nonce, from: self.seen, state };
        let mut answer = [0; ANSWER];
        if occlum_rt::ocall::call(Ocall::Counter, &[], &request.seal(&self.at.key), &mut answer) != 0 {
            return Err(Error::Freshness(Distrust::Unreachable));
        }
        match Answer::open(&answer, &request, &self.at.key) {
            None => Err(Error::Freshness(Distrust::Forged)),
            Some(Answer::Damaged) => Err(Error::Freshness(Distrust::Damaged)),
            Some(answer) => Ok(answer),
        }
    }

    fn look(&mut self) -> Result<Option<Record>, Error> {
        match self.ask(Op::Read, [0; STATE])? {
            Answer::Stands(record) => {
                self.seen = record.value;
                Ok(Some(record))
            }
            Answer::Absent => Ok(None),
            Answer::Moved(_) | Answer::Damaged => Err(Error::Freshness(Distrust::Forged)),
        }
    }

    /// What it says of a store that has still to be opened.
    pub(super) fn before(&mut self) -> Result<Before, Error> {
        Ok(match self.look()?.map(|r| Mark::from_bytes(&r.state).1) {
            None => Before::Absent,
            Some(None) => Before::Reserved,
            Some(Some(_)) => Before::Counted,
        })
    }

    /// Begins to count, before there is a store: so one without a counter is none that this enclave left.
    pub(super) fn reserve(&mut self) -> Result<(), Error> {
        self.set([0; STATE])
    }

    fn set(&mut self, state: [u8; STATE]) -> Result<(), Error> {
        match self.ask(Op::Advance, state)? {
            Answer::Stands(record) => {
                self.seen = record.value;
                Ok(())
            }
            Answer::Moved(_) => Err(Error::Forked),
            Answer::Absent | Answer::Damaged => Err(Error::Freshness(Distrust::Forged)),
        }
    }
}

impl Freshness for Counter {
    fn read(&mut self, id: &[u8; 16]) -> Result<Option<Mark>, Error> {
        let record = self.look()?.ok_or(Error::Uncounted)?;
        match Mark::from_bytes(&record.state) {
            (_, None) => Ok(None),
            (store, Some(_)) if store != *id => Err(Error::Replaced),
            (_, mark) => Ok(mark),
        }
    }
    /// The counter itself compares with where it was last seen, which was at `from`.
    fn advance(&mut self, id: &[u8; 16], _from: Option<&Mark>, to: &Mark) -> Result<(), Error> {
        self.set(to.to_bytes(id))
    }
}

/// What is wrong with a store that the host has not, although it was counted.
pub(super) fn missing() -> String {
    String::from(
        "the store was rolled back to nothing: its file is missing or empty, but its counter knows a store",
    )
}
