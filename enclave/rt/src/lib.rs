//! The runtime inside the enclave: entry, TCS/SSA/AEX, OCALL gate, guest entry and stubs, user-memory copy,
//! allocator, locks. The only enclave crate with `unsafe`.
//!
//! Neighbours: above it `occlum-libos` (all policy, no unsafe), outside it `host/pal` (untrusted), beside it
//! the numbers of `occlum-sfi-spec` and `occlum-sgx-arch`.
//!
//! Invariants, referred to as I1.. by the SAFETY comments:
//! - I1 While kernel code runs, FS base is the current context (`Ctx`) of this vCPU and `ctx::VCPU` in it
//!   points to the vCPU's block. Only `entry`, `switch` and `enter_guest` change FS base.
//! - I2 The big kernel lock (BKL) is held by at most one vCPU; everything in a `BklCell` and every context
//!   that is not current on a running vCPU is touched under it only.
//! - I3 The code cache, the lookup tables and the contexts are mapped at fixed places of ELRANGE that no
//!   guest access can reach; guest memory is touched only by `slot`, through routines that stage 1 can fix
//!   up.
//! - I4 Kernel code is never preempted: stage 1 either returns to the interrupted instruction, or to a fix-up
//!   of the routine it interrupted, or to guest exit.
//! - I5 Between guest exit and the next entry x87, MXCSR and the upper vector halves are either live in the
//!   CPU or in `ctx::XSAVE` (`ctx::XSTATE_SAVED` says which); xmm0-15 are in `ctx::XMM`.
//! - I6 Nothing read from outside (OCALL results, launch parameters) is trusted: lengths are checked, data
//!   copied once.
#![no_std]
#![allow(unsafe_code)]
#![warn(missing_docs)]
extern crate alloc;

mod aex;
mod arch;
mod asm;
pub mod bkl;
pub mod code;
mod ctx;
pub mod egetkey;
pub mod lock;
pub mod mem;
#[cfg(feature = "image")]
mod memfn;
pub mod ocall;
mod panic;
mod proven;
pub mod random;
pub mod shadow;
pub mod slot;
pub mod task;
pub mod time;
pub mod vcpu;

pub use panic::{log, on_panic, quiet_log};
pub use vcpu::halt;

use alloc::vec::Vec;
use occlum_enclave_abi::Config;

/// What the LibOS gets at boot.
pub struct BootInfo {
    /// The measured configuration.
    pub config: Config,
    /// Untrusted launch parameters, copied in.
    pub launch: Vec<u8>,
}

/// The LibOS, as the runtime sees it.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Called once, on vCPU 0, under the BKL.
    pub init: fn(BootInfo),
    /// Called on each vCPU, BKL not held.
    pub vcpu_main: fn(u32) -> !,
}

/// Makes an image of a crate: names the hooks, the heap and the panic handler.
#[macro_export]
macro_rules! entry {
    ($hooks:expr) => {
        #[global_allocator]
        static HEAP: $crate::mem::Heap = $crate::mem::Heap;

        #[panic_handler]
        fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::on_panic(info)
        }

        /// Where the runtime finds the LibOS.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub extern "Rust" fn occlum_rt_hooks() -> $crate::Hooks {
            $hooks
        }
    };
}
