//! The measured image: the runtime with the library OS. Only `tools/build_enclave.py` knows how to link it.
//!
//! With unwinding panics (a plain `cargo check` of the workspace) it is an empty hosted program instead.
#![cfg_attr(panic = "abort", no_std)]
#![cfg_attr(panic = "abort", no_main)]

#[cfg(panic = "abort")]
occlum_rt::entry!(occlum_libos::HOOKS);

#[cfg(not(panic = "abort"))]
fn main() {}
