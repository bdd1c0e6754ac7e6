//! Structures that cross between guest and LibOS as bytes.
//!
//! The `layout!` macro turns one row per field (type, offset) into a structure with `SIZE`, `to_bytes` and
//! `from_bytes`.
pub(crate) mod file;
pub(crate) mod io;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod time;

/// A field's bytes.
pub(crate) trait Field: Sized {
    /// Writes the value at the start of `out`.
    fn put(&self, out: &mut [u8]);
    /// Reads it from the start of `from`.
    fn take(from: &[u8]) -> Self;
}

macro_rules! integer_fields {
    ($($int:ty),*) => {$(
        impl Field for $int {
            fn put(&self, out: &mut [u8]) {
                out[..size_of::<$int>()].copy_from_slice(&self.to_le_bytes());
            }
            fn take(from: &[u8]) -> Self {
                let mut bytes = [0; size_of::<$int>()];
                bytes.copy_from_slice(&from[..size_of::<$int>()]);
                <$int>::from_le_bytes(bytes)
            }
        }
    )*};
}
integer_fields!(u8, u16, i16, u32, i32, u64, i64);

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut [u8]) {
        out[..N].copy_from_slice(self);
    }
    fn take(from: &[u8]) -> Self {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&from[..N]);
        bytes
    }
}

/// Defines a structure by its fields and their offsets; bytes that no field covers are zero.
macro_rules! layout {
    ($($(#[$doc:meta])* $name:ident[$size:literal] { $($field:ident: $type:ty = $at:literal,)* })*) => {$(
        $(#[$doc])*
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $(pub $field: $type,)* }
        impl $name {
            /// Bytes of the structure.
            pub const SIZE: usize = $size;
            /// The structure as the guest sees it.
            pub fn to_bytes(&self) -> [u8; $size] {
                let mut out = [0; $size];
                $($crate::layout::Field::put(&self.$field, &mut out[$at..]);)*
                out
            }
            /// From a guest's bytes; every bit pattern is a value.
            pub fn from_bytes(bytes: &[u8; $size]) -> Self {
                Self { $($field: $crate::layout::Field::take(&bytes[$at..]),)* }
            }
        }
        impl $crate::layout::Field for $name {
            fn put(&self, out: &mut [u8]) {
                out[..$size].copy_from_slice(&self.to_bytes());
            }
            fn take(from: &[u8]) -> Self {
                let mut bytes = [0; $size];
                bytes.copy_from_slice(&from[..$size]);
                Self::from_bytes(&bytes)
            }
        }
        impl Default for $name {
            fn default() -> Self {
                Self::from_bytes(&[0; $size])
            }
        }
    )*};
}
pub(crate) use layout;

#[cfg(test)]
mod tests;
