//! Layout of `ucontext` and of the signal frame that holds it, as byte offsets.
//!
//! The frame, from low addresses: return address (the restorer), `ucontext`, `siginfo`; the `fpstate` image
//! lies above at a 64-byte aligned address. Neighbours: `enclave/libos` writes and reads frames.

/// `uc_flags` in `ucontext`.
pub const UC_FLAGS: usize = 0;
/// `uc_link`.
pub const UC_LINK: usize = 8;
/// `uc_stack`: a `SigAltStack`.
pub const UC_STACK: usize = 16;
/// `uc_mcontext`: the general registers, in the order of `GREGS`.
pub const UC_MCONTEXT: usize = 40;
/// Pointer to the floating-point image.
pub const UC_FPSTATE: usize = UC_MCONTEXT + 184;
/// `uc_sigmask`, 8 bytes.
pub const UC_SIGMASK: usize = 296;
/// Bytes of `ucontext` in a frame.
pub const UC_SIZE: usize = 304;

/// `uc_flags`: the floating-point image is in XSAVE format.
pub const UC_FP_XSTATE: u64 = 1;
/// `uc_flags`: the stack segment was saved.
pub const UC_SIGCONTEXT_SS: u64 = 2;
/// `uc_flags`: restore the stack segment as saved.
pub const UC_STRICT_RESTORE_SS: u64 = 4;

/// General registers of `uc_mcontext` in order, as hardware register numbers (rax 0, rcx 1, rdx 2, rbx 3, rsp
/// 4, rbp 5, rsi 6, rdi 7, r8..r15 8..15): `GREGS[i]` lies at `UC_MCONTEXT + 8 * i`.
pub const GREGS: [usize; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4];
/// `rip`.
pub const UC_RIP: usize = UC_MCONTEXT + 128;
/// `eflags`.
pub const UC_EFLAGS: usize = UC_MCONTEXT + 136;
/// `cs`, `gs`, `fs`, `ss`, u16 each.
pub const UC_CSGSFS: usize = UC_MCONTEXT + 144;
/// Error code of a fault.
pub const UC_ERR: usize = UC_MCONTEXT + 152;
/// Vector of a fault.
pub const UC_TRAPNO: usize = UC_MCONTEXT + 160;
/// Old 32-bit mask.
pub const UC_OLDMASK: usize = UC_MCONTEXT + 168;
/// Fault address.
pub const UC_CR2: usize = UC_MCONTEXT + 176;

/// `cs` of 64-bit user code.
pub const USER_CS: u16 = 0x33;
/// `ss` of user code.
pub const USER_SS: u16 = 0x2b;

/// `ucontext` in the frame.
pub const FRAME_UC: usize = 8;
/// `siginfo` in the frame.
pub const FRAME_INFO: usize = FRAME_UC + UC_SIZE;
/// Bytes of the frame without the floating-point image.
pub const FRAME_SIZE: usize = FRAME_INFO + 128;
/// Bytes below the stack pointer that a handler must not touch.
pub const RED_ZONE: u64 = 128;

/// Software bytes in the legacy image that announce the XSAVE format.
pub const FP_SW_BYTES: usize = 464;
/// First word of the software bytes.
pub const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// Word after the XSAVE image.
pub const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Bytes of the second magic word.
pub const FP_XSTATE_MAGIC2_SIZE: usize = 4;
