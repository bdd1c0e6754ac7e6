//! The trusted counter of a sealed layer: what it stands at is the newest state of the store.
//!
//! Neighbours: `occlum_sgx_arch::counter` (the messages), `crate::seal` (key and slot), `sealed-disk` (asks and advances).
//! Invariant: nothing that the host returns is believed but an answer that carries the counter's MAC over this request.
use super::super::host::{self, At};
use super::super::prelude::{EIO, ENOENT, O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY};
use alloc::string::String;
use alloc::vec::Vec;
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

/// A counter for development: a line in a file of the host. It notices mistakes, no more. The host's tools keep the same
/// (`Mark::to_line`).
pub(super) struct InsecureFile(pub(super) Vec<u8>);

impl InsecureFile {
    /// More than any line.
    const LONGEST: usize = 256;

    fn line(&self) -> Result<Option<String>, Error> {
        let failed = |_| Error::Freshness(Distrust::Unreachable);
        let fd = match host::open(At::named(&self.0), O_RDONLY, 0) {
            Err(ENOENT) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut buf = [0; Self::LONGEST];
        let read = host::pread(fd, 0, &mut buf);
        host::close(fd);
        let line = String::from_utf8(buf[..read.map_err(failed)?].to_vec());
        line.map(Some).map_err(|_| Error::Freshness(Distrust::Damaged))
    }
    /// The new line replaces the old one in one step.
    fn replace(&self, line: &str) -> super::super::prelude::Result<()> {
        let at = self.0.iter().rposition(|c| *c == b'/').map_or(0, |i| i + 1);
        let (dir, name) = self.0.split_at(at);
        let dir = host::open_top(if dir.is_empty() { b"." } else { dir })?;
        let new = [name, b".new"].concat();
        let new = At::beneath(&dir, &new);
        let fd = host::open(new, O_WRONLY | O_CREAT | O_TRUNC, 0o600)?;
        let written = host::pwrite(fd, 0, line.as_bytes());
        let synced = host::fsync(fd);
        host::close(fd);
        if written? != line.len() {
            return Err(EIO);
        }
        synced?;
        host::path_op_to(host::Op::Rename, new, At::beneath(&dir, name))
    }
}

impl Freshness for InsecureFile {
    fn read(&mut self, id: &[u8; 16]) -> Result<Option<Mark>, Error> {
        let Some(line) = self.line()? else { return Ok(None) };
        match Mark::from_line(&line) {
            None => Err(Error::Freshness(Distrust::Damaged)),
            Some((store, _)) if store != *id => Err(Error::Replaced),
            Some((_, mark)) => Ok(Some(mark)),
        }
    }
    fn advance(&mut self, id: &[u8; 16], from: Option<&Mark>, to: &Mark) -> Result<(), Error> {
        if self.read(id)?.as_ref() != from {
            return Err(Error::Forked);
        }
        self.replace(&to.to_line(id)).map_err(|_| Error::Freshness(Distrust::Unreachable))
    }
}

/// What is wrong with a store that the host has not, although it was counted.
pub(super) fn missing() -> String {
    String::from(
        "the store was rolled back to nothing: its file is missing or empty, but its counter knows a store",
    )
}
