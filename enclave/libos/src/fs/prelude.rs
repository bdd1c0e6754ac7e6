//! What every file of `crate::fs` and `crate::net` uses.
pub(crate) use super::consts::*;
pub(crate) use crate::errno::Errno;
pub(crate) use crate::sched::WaitQueue;
pub(crate) use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
pub(crate) use alloc::string::String;
pub(crate) use alloc::sync::{Arc, Weak};
pub(crate) use alloc::vec;
pub(crate) use alloc::vec::Vec;
pub(crate) use core::any::Any;
pub(crate) use occlum_rt::bkl::BklCell;

/// Result with a Linux error number.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => { $(pub(crate) const $name: Errno = Errno::$name;)* };
}
errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV ENODEV ENOTDIR
    EISDIR EINVAL EMFILE ENOTTY EFBIG ENOSPC ESPIPE EROFS EPIPE ERANGE ENAMETOOLONG ENOTEMPTY ELOOP
    ENODATA EOVERFLOW ENOTSOCK EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP
    EAFNOSUPPORT EADDRINUSE ENOBUFS EISCONN ENOTCONN ETIMEDOUT ECONNREFUSED EADDRNOTAVAIL EALREADY ECONNABORTED
    ECONNRESET EDESTADDRREQ EDOM EINPROGRESS ENETUNREACH E2BIG EDEADLK
}

/// An errno from a positive number; anything else is `EIO`.
pub(crate) fn errno_from(raw: i32) -> Errno {
    Errno::from_raw(raw).unwrap_or(EIO)
}
