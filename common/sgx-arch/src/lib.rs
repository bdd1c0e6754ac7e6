//! Structures of the Intel SDM (volume 3D) that both sides of the enclave's edge need, the measurement stream, and the
//! messages of trusted counters.
//!
//! Neighbours: `host/pal` builds TCS pages and measures with it; `enclave/rt` reads SSA frames with it.
//! Invariants: offsets are the SDM's; nothing here touches memory by itself.
#![no_std]
#![forbid(unsafe_code)]

pub mod counter;
pub mod keys;
pub mod layout;
pub mod measure;
#[cfg(feature = "cpu")]
pub mod sigstruct;

/// Bytes of an EPC page.
pub const PAGE: usize = 4096;

/// Thread control structure: byte offsets of its fields.
pub mod tcs {
    /// FLAGS, u64.
    pub const FLAGS: usize = 8;
    /// Offset of the SSA area from the enclave base, u64.
    pub const OSSA: usize = 16;
    /// Current SSA frame, u32.
    pub const CSSA: usize = 24;
    /// Number of SSA frames, u32.
    pub const NSSA: usize = 28;
    /// Entry point, offset from the enclave base, u64.
    pub const OENTRY: usize = 32;
    /// FS base, offset from the enclave base, u64.
    pub const OFSBASE: usize = 48;
    /// GS base, offset from the enclave base, u64.
    pub const OGSBASE: usize = 56;
    /// FS limit, u32.
    pub const FSLIMIT: usize = 64;
    /// GS limit, u32.
    pub const GSLIMIT: usize = 68;

    /// The initial content of a TCS page.
    #[derive(Clone, Copy, Debug)]
    pub struct Tcs {
        /// OSSA.
        pub ossa: u64,
        /// NSSA.
        pub nssa: u32,
        /// OENTRY.
        pub oentry: u64,
        /// OFSBASE (OGSBASE is the same).
        pub ofsbase: u64,
    }
    impl Tcs {
        /// The page to EADD.
        pub fn to_page(self) -> [u8; super::PAGE] {
            let mut p = [0; super::PAGE];
            p[OSSA..OSSA + 8].copy_from_slice(&self.ossa.to_le_bytes());
            p[NSSA..NSSA + 4].copy_from_slice(&self.nssa.to_le_bytes());
            p[OENTRY..OENTRY + 8].copy_from_slice(&self.oentry.to_le_bytes());
            for at in [OFSBASE, OGSBASE] {
                p[at..at + 8].copy_from_slice(&self.ofsbase.to_le_bytes());
            }
            p[FSLIMIT..GSLIMIT + 4].fill(0xff);
            p
        }
    }
}

/// State save area: byte offsets inside one frame of `FRAME` bytes. The XSAVE image stands at its start.
pub mod ssa {
    /// Bytes of one frame (SECS.SSAFRAMESIZE is 1 page).
    pub const FRAME: usize = super::PAGE;
    /// Bytes of the XSAVE image for XFRM = x87|SSE|AVX.
    pub const XSAVE_SIZE: usize = 832;
    /// GPRSGX stands at the end of the frame.
    pub const GPRSGX: usize = FRAME - 184;
    /// General registers, by hardware number.
    pub const GPR: usize = GPRSGX;
    /// RFLAGS.
    pub const RFLAGS: usize = GPRSGX + 128;
    /// RIP.
    pub const RIP: usize = GPRSGX + 136;
    /// RSP of the host at EENTER.
    pub const URSP: usize = GPRSGX + 144;
    /// RBP of the host at EENTER.
    pub const URBP: usize = GPRSGX + 152;
    /// EXITINFO, u32.
    pub const EXITINFO: usize = GPRSGX + 160;
    /// FS base.
    pub const FSBASE: usize = GPRSGX + 168;
    /// GS base.
    pub const GSBASE: usize = GPRSGX + 176;
    /// MISC region's EXINFO: MADDR (u64), ERRCD (u32).
    pub const MADDR: usize = GPRSGX - 16;
    /// Error code of #PF or #GP.
    pub const ERRCD: usize = GPRSGX - 8;
    /// EXITINFO.VALID.
    pub const EXITINFO_VALID: u32 = 1 << 31;
    /// EXITINFO.EXIT_TYPE: hardware exception.
    pub const TYPE_HARDWARE: u32 = 3 << 8;
    /// EXITINFO.EXIT_TYPE: software exception (#BP, #OF).
    pub const TYPE_SOFTWARE: u32 = 6 << 8;
}

/// SECINFO.FLAGS bits.
pub mod secinfo {
    /// Readable.
    pub const R: u64 = 1;
    /// Writable.
    pub const W: u64 = 2;
    /// Executable.
    pub const X: u64 = 4;
    /// Page type TCS.
    pub const TCS: u64 = 1 << 8;
    /// Page type REG.
    pub const REG: u64 = 2 << 8;
}
