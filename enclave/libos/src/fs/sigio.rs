//! Signal-driven I/O: O_ASYNC, and the calls that say who owns an open file.
//!
//! Neighbours: `signal::owner` sends; `sched::WaitQueue::tell` is how a file says what happened, at the queues on which the
//! open file would wait. Invariant: an open file has a teller only while O_ASYNC was switched on (open(2) alone does not).
use super::env;
use super::file::{OpenFile, Tells};
use super::prelude::*;
use crate::sched::Listener;
use crate::signal::owner::{Band, Kind};
use crate::uaccess;

/// Passes on to an open file's owner what its queues tell.
pub struct Teller {
    file: Weak<OpenFile>,
    /// The descriptor by which it was asked for.
    fd: i32,
}

impl Listener for Teller {
    fn hear(&self, what: Band) {
        if let Some(f) = self.file.upgrade()
            && let Some(what) = if what == Band::Any { look(&f) } else { Some(what) }
        {
            f.owner.with(Clone::clone).tell(self.fd, what);
        }
    }
}

/// Tells an open socket's owner of urgent data, with or without O_ASYNC.
pub struct UrgentTeller(Weak<OpenFile>);

impl Listener for UrgentTeller {
    fn hear(&self, what: Band) {
        if let Some(f) = self.0.upgrade().filter(|_| what == Band::Urgent) {
            f.owner.with(Clone::clone).tell_urgent();
        }
    }
}

/// An open file has an owner: if it is a socket, he hears of urgent data from now on.
fn expect_urgent(f: &Arc<OpenFile>) {
    let Some(special) = f.special().filter(|s| s.as_socket().is_some()) else { return };
    if f.urgent_teller.with(Option::is_some) {
        return;
    }
    let teller = Arc::new(UrgentTeller(Arc::downgrade(f)));
    let mut queues = Vec::new();
    special.queues(&mut queues);
    let listener: Weak<dyn Listener> = Arc::downgrade(&teller) as Weak<dyn Listener>;
    queues.iter().for_each(|q| q.listen(listener.clone()));
    drop(f.urgent_teller.replace(Some(teller)));
}

/// What there is to tell of a file of which something was heard.
fn look(f: &OpenFile) -> Option<Band> {
    match f.poll(POLLIN) {
        e if e & POLLIN != 0 => Some(Band::In),
        e if e & POLLHUP != 0 => Some(Band::HangUp),
        _ => None,
    }
}

/// The flags of an open file change, O_ASYNC with its effect. ENOTTY: it has none on this file (which F_SETFL does not say).
pub fn set_flags(f: &Arc<OpenFile>, fd: i32, flags: u32) -> Result<()> {
    let changes = (flags ^ f.flags()) & O_ASYNC != 0;
    let can = !changes || switch(f, fd, flags & O_ASYNC != 0);
    f.set_flags(flags);
    if can { Ok(()) } else { Err(ENOTTY) }
}

/// False: the file tells nobody.
fn switch(f: &Arc<OpenFile>, fd: i32, on: bool) -> bool {
    let Some(special) = f.special() else { return false };
    let group = match special.tells() {
        Tells::Nobody => return false,
        Tells::Owner => None,
        Tells::Group(group) => Some(group),
    };
    if !on {
        drop(f.teller.take());
        return true;
    }
    if let Some(group) = group {
        let first = if group > 0 { (Kind::Group, group) } else { (Kind::Process, env::peer().0) };
        f.owner.with_mut(|o| o.set_first(first.0, first.1));
    }
    let teller = Arc::new(Teller { file: Arc::downgrade(f), fd });
    let mut queues = Vec::new();
    special.queues(&mut queues);
    special.watch_edges();
    let listener: Weak<dyn Listener> = Arc::downgrade(&teller) as Weak<dyn Listener>;
    queues.iter().for_each(|q| q.listen(listener.clone()));
    drop(f.teller.replace(Some(teller)));
    true
}

/// F_SETOWN, FIOSETOWN: a process, or (negative) a group.
pub fn set_owner(f: &Arc<OpenFile>, who: i32) -> Result<()> {
    let (kind, id) = match who {
        i32::MIN => return Err(EINVAL),
        n if n < 0 => (Kind::Group, -n),
        n => (Kind::Process, n),
    };
    f.owner.with_mut(|o| o.set(kind, id))?;
    expect_urgent(f);
    Ok(())
}
/// F_GETOWN, FIOGETOWN.
pub fn get_owner(f: &OpenFile) -> i32 {
    let (kind, id) = f.owner.with(|o| o.get());
    if kind == Kind::Group as u8 { -id } else { id }
}
/// F_SETOWN_EX.
pub fn set_owner_ex(f: &Arc<OpenFile>, at: u64) -> Result<()> {
    let (kind, id): (i32, i32) = (uaccess::read_val(at)?, uaccess::read_val(at + 4)?);
    let kind = match kind {
        0 => Kind::Thread,
        1 => Kind::Process,
        2 => Kind::Group,
        _ => return Err(EINVAL),
    };
    f.owner.with_mut(|o| o.set(kind, id))?;
    expect_urgent(f);
    Ok(())
}
/// F_GETOWN_EX.
pub fn get_owner_ex(f: &OpenFile, at: u64) -> Result<()> {
    let (kind, id) = f.owner.with(|o| o.get());
    uaccess::write_val(at, i32::from(kind))?;
    uaccess::write_val(at + 4, id)
}
/// F_SETSIG: 0 is SIGIO.
pub fn set_signal(f: &OpenFile, sig: u64) -> Result<()> {
    if sig > 64 {
        return Err(EINVAL);
    }
    f.owner.with_mut(|o| o.sig = sig as i32);
    Ok(())
}
