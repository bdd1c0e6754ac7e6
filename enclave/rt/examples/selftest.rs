//! An image with a miniature LibOS that exercises the runtime: log, heap, tasks, user copies with faults, limits of the
//! OCALL gate and of page rights, hand-made guest code (syscall, fault, kick under a tick on every vCPU), and its costs.
//! Started as a program named `refused` it looks only at memory that the host will not change. Run by
//! `tests/unit/test_runtime.py` and `tools/mutate.py`.
#![cfg_attr(panic = "abort", no_std)]
#![cfg_attr(panic = "abort", no_main)]

#[cfg(panic = "abort")]
mod image {
    extern crate alloc;
    use alloc::format;
    use alloc::vec::Vec;
    use occlum_enclave_abi::{ANYWHERE, HostStat, OCALL_DATA_MAX, Ocall};
    use occlum_rt::bkl::{self, BklCell};
    use occlum_rt::code::{Around, Committed};
    use occlum_rt::slot::{R, Slot, W};
    use occlum_rt::task::{self, Exit, Task};
    use occlum_rt::{BootInfo, Hooks, code, ocall, time};
    use occlum_sfi_spec::PAGE;
    use occlum_sfi_spec::domain::{MAP_MAX, MAP_MIN, SIZE};
    use occlum_sfi_spec::table::Kind;

    occlum_rt::entry!(Hooks { init, vcpu_main });

    static MAIN: BklCell<Option<Task>> = BklCell::new(None);
    static OTHER: BklCell<Option<&'static Task>> = BklCell::new(None);
    static READY: BklCell<Vec<Task>> = BklCell::new(Vec::new());
    static LEFT: BklCell<u32> = BklCell::new(0);

    fn say(text: &str) {
        occlum_rt::log(&format!("selftest: {text}\n"));
    }

    fn init(boot: BootInfo) {
        say(&format!("boot, {} vCPUs, {} launch bytes", boot.config.vcpus, boot.launch.len()));
        let is_refused = boot.launch.windows(7).any(|w| w == b"refused");
        MAIN.replace(Task::new(if is_refused { refused_task } else { main_task }, 1));
    }

    fn vcpu_main(vcpu: u32) -> ! {
        bkl::lock();
        if vcpu == 0
            && let Some(t) = MAIN.take()
        {
            task::switch(Task::idle(0), alloc::boxed::Box::leak(alloc::boxed::Box::new(t)));
        }
        loop {
            if let Some(t) = READY.with_mut(Vec::pop) {
                let t: &'static Task = alloc::boxed::Box::leak(alloc::boxed::Box::new(t));
                OTHER.set(Some(t));
                task::switch(Task::idle(vcpu), t);
                continue;
            }
            bkl::unlock();
            let mut out = [0; 24];
            ocall::call(Ocall::Wait, &[u64::MAX], &[], &mut out);
            bkl::lock();
        }
    }

    fn finish(code: u64) -> ! {
        ocall::call(Ocall::Exit, &[0, code], &[], &mut []);
        occlum_rt::halt()
    }

    fn heap() {
        let mut all = Vec::new();
        for i in 0..2000usize {
            all.push(alloc::vec![i as u8; i * 7 % 5000 + 1]);
        }
        all.retain(|v| v.len() % 3 != 0);
        let big = alloc::vec![7u8; 5 << 20];
        assert!(all.iter().all(|v| v.iter().all(|b| *b == v[0])) && big[5 << 19] == 7);
        let mut v: Vec<u8> = (0..200).collect();
        for n in [1, 2, 3, 5, 9, 16, 17, 40, 100] {
            v.copy_within(0..n, 3);
            v.copy_within(3..3 + n, 1);
        }
        say(&format!("heap ok, {} KiB", occlum_rt::mem::heap_used() >> 10));
    }

    const SLOT: Slot = Slot::new(3);

    fn copies() {
        SLOT.protect(0x10000, 0x4000, R | W, true, false).unwrap();
        let data: Vec<u8> = (0..9000u32).map(|i| i as u8).collect();
        SLOT.write(0x10010, &data).unwrap();
        let mut back = alloc::vec![0; 9000];
        SLOT.read(0x10010, &mut back).unwrap();
        assert_eq!(data, back);
        let fault = SLOT.write(0x13ff8, &[1; 64]).unwrap_err();
        assert!(fault.write && fault.off == 0x14000, "{fault:?}");
        let fault = SLOT.read(0x13800, &mut back).unwrap_err();
        assert!(!fault.write && fault.off & !4095 == 0x14000, "{fault:?}");
        assert!(SLOT.read(0xffff_ffff_ffff, &mut back).is_err());
        assert!(SLOT.zero(0x5000_0000, 100).is_err());
        assert_eq!(SLOT.cmpxchg_u32(0x10010, u32::from_le_bytes([0, 1, 2, 3]), 77), Ok(0x0302_0100));
        assert_eq!(SLOT.cmpxchg_u32(0x10010, 78, 79), Ok(77));
        assert!(SLOT.cmpxchg_u32(0x10011, 0, 0).is_err());
        SLOT.protect(0x10000, 0x1000, R | W, false, true).unwrap();
        assert_eq!(SLOT.cmpxchg_u32(0x10010, 1, 2), Ok(0));
        SLOT.protect(0x10000, 0x1000, R, false, false).unwrap();
        assert!(SLOT.write(0x10000, &[1]).unwrap_err().write);
        assert!(SLOT.protect(0x1000, 0x1000, 3, false, false).is_err());
        say("copies ok");
    }

    /// What the LibOS never asks for is refused here, with nothing done; the edges of what it may ask for are not.
    fn limits() {
        const AT: u64 = 0x80000;
        SLOT.protect(AT, 4 * PAGE, R | W, true, false).unwrap();
        SLOT.write(AT, &[7; 4 * PAGE as usize]).unwrap();
        let wrong = [
            (MAP_MIN - PAGE, PAGE, R),
            (MAP_MAX, PAGE, R),
            (MAP_MIN, MAP_MAX, R),
            (u64::MAX - PAGE + 1, PAGE, R),
            (AT + 0x800, PAGE, R | W),
            (AT, PAGE + 100, R | W),
            (AT, PAGE, R | W | 4),
        ];
        for (off, len, rights) in wrong {
            assert_eq!(SLOT.protect(off, len, rights, false, true), Err(22), "{off:#x} {len:#x} {rights}");
        }
        let mut back = alloc::vec![0; 4 * PAGE as usize];
        SLOT.read(AT, &mut back).unwrap();
        assert!(back.iter().all(|b| *b == 7));
        for (off, len) in [(MAP_MIN, PAGE), (MAP_MAX - PAGE, PAGE), (AT, 0)] {
            SLOT.protect(off, len, R | W, false, true).unwrap();
        }
        assert!(SLOT.read(SIZE, &mut []).is_ok() && SLOT.read(SIZE - 8, &mut back).is_err());
        say("limits ok");
    }

    /// Of the gate itself: no more arguments and bytes than there is room for.
    fn gate() {
        let mut big = alloc::vec![7; OCALL_DATA_MAX + 1];
        let (n, args) = (OCALL_DATA_MAX, [0; 7]);
        let clock =
            |args: &[u64], input: &[u8], output: &mut [u8]| ocall::call(Ocall::Clock, args, input, output);
        assert_eq!(clock(&args, &[], &mut [0; 24]), -22);
        assert_eq!(clock(&args[..6], &[], &mut [0; 24]), 0);
        assert_eq!(clock(&[], &big, &mut [0; 24]), -22);
        assert_eq!(clock(&[], &big[..n], &mut [0; 24]), 0);
        assert_eq!(clock(&[], &[], &mut big), -22);
        assert!(big.iter().all(|b| *b == 7));
        assert_eq!(clock(&[], &[], &mut big[..n]), 0);
        assert!(big[..8] != [7; 8] && big[n] == 7);
        say("gate ok");
    }

    /// Asks until the host agrees: that content and rights have not suffered by a refusal is for the caller to check.
    fn insist(off: u64, len: u64, rights: u32) {
        while let Err(e) = SLOT.protect(off, len, rights, false, false) {
            assert!((1..4096).contains(&e), "{e}");
        }
    }

    /// Pages that were to lose their content have none, though the host does not take them: writable, read-only and
    /// inaccessible ones. What was to keep content and rights has them, whatever the host refused.
    fn refused_task() -> ! {
        const AT: u64 = 0x20000;
        const PAGES: u64 = 4;
        let all = |off: u64, byte: u8| {
            let mut back = [!byte; PAGE as usize];
            SLOT.read(off, &mut back).is_ok() && back.iter().all(|b| *b == byte)
        };
        // The lies begin (`host/pal/src/hostile.rs`).
        ocall::call(Ocall::Stat, &[ANYWHERE], b"/lies-begin", &mut [0; HostStat::SIZE]);
        for round in 0..200 {
            let [writable, read_only, none, zero]: [u64; PAGES as usize] =
                core::array::from_fn(|n| AT + n as u64 * PAGE);
            insist(AT, PAGES * PAGE, R | W);
            SLOT.zero(AT, PAGES * PAGE).unwrap();
            SLOT.write(AT, &[7; 3 * PAGE as usize]).unwrap();
            insist(none, PAGE, 0);
            insist(read_only, PAGE, R);
            insist(zero, PAGE, R);
            assert!(all(writable, 7) && all(read_only, 7) && all(zero, 0), "content went");
            let taken = SLOT.protect(zero, PAGE, 0, false, true).is_ok();
            assert!(taken || all(zero, 0) && SLOT.write(zero, &[0]).is_err(), "rights came");
            let taken = SLOT.protect(AT, PAGES * PAGE, 0, false, true);
            say(&format!("round {round}: {taken:?}"));
            assert!(taken.is_err() || SLOT.read(writable, &mut [0]).is_err(), "rights stayed");
            insist(AT, PAGES * PAGE, R);
            assert!((0..PAGES).all(|n| all(AT + n * PAGE, 0)), "content stayed");
        }
        say("all ok");
        finish(42)
    }

    /// Guest code: `body`, and where it lies.
    fn place(body: &[u8]) -> u32 {
        let at = code::alloc(body.len() + 16).unwrap();
        code::publish_unverified(at, body);
        at
    }

    fn jmp_to(at: u32, len: usize, target: u32) -> [u8; 5] {
        let rel = target.wrapping_sub(at + len as u32 + 5).to_le_bytes();
        [0xe9, rel[0], rel[1], rel[2], rel[3]]
    }

    /// `prefix`, then a syscall pattern that resumes at its own start.
    fn place_syscall(prefix: &[u8], next: u32) -> u32 {
        let at = code::alloc(prefix.len() + 32).unwrap();
        let mut b = prefix.to_vec();
        let here = at + b.len() as u32;
        let back = at.wrapping_sub(here + 7).to_le_bytes();
        b.extend_from_slice(&[0x48, 0x8d, 0x0d, back[0], back[1], back[2], back[3]]);
        b.extend_from_slice(&[0x41, 0xbb]);
        b.extend_from_slice(&next.to_le_bytes());
        let j = jmp_to(at, b.len(), code::stubs().syscall);
        b.extend_from_slice(&j);
        code::publish_unverified(at, &b);
        at
    }

    fn guest(t: &Task) {
        t.set_slot(SLOT);
        t.set_gpr(4, 0x12000);
        // lea 1(%rax),%rax ; vpaddd of ymm0 keeps upper halves interesting
        let at = place_syscall(&[0x48, 0x8d, 0x40, 0x01], 0x1234);
        t.set_gpr(0, 41);
        t.set_resume(at);
        t.set_rflags(0xffff_ffff);
        assert_eq!(task::enter_guest(), Exit::Syscall);
        assert_eq!((t.gpr(0), t.rip(), t.resume(), t.gpr(4)), (42, 0x1234, at, 0x12000));
        assert_eq!((t.gpr(1), t.gpr(11), t.rflags()), (0x1234, 0xed7 & !0x0 | 0x202 & 0xcd7, 0xed7));
        t.set_rflags(0);
        let rounds = 100_000;
        let t0 = time::tsc();
        for _ in 0..rounds {
            assert_eq!(task::enter_guest(), Exit::Syscall);
        }
        say(&format!("enter_guest + syscall stub: {} TSC", (time::tsc() - t0) / rounds));
        let t0 = time::tsc();
        for _ in 0..rounds {
            ocall::call(Ocall::Clock, &[], &[], &mut [0; 24]);
        }
        say(&format!("OCALL (Clock): {} TSC", (time::tsc() - t0) / rounds));
        let t0 = time::tsc();
        for _ in 0..rounds {
            occlum_rt::vcpu::kick(99);
            ocall::call(Ocall::Report, &[9], &[], &mut []);
        }
        say(&format!("OCALL (none): {} TSC", (time::tsc() - t0) / rounds));
        faults(t);
        vectors(t);
        tables(t);
    }

    fn faults(t: &Task) {
        // mov %gs:0x20000(addr32),%eax: 65 67 8b 04 25 disp32
        let at = place(&[0x65, 0x67, 0x8b, 0x04, 0x25, 0, 0, 2, 0]);
        t.set_resume(at);
        match task::enter_guest() {
            Exit::Exception(e) => {
                assert_eq!((e.vector, e.fault_off, e.rip), (14, Some(0x20000), u64::from(at)));
                assert_eq!(t.resume(), at);
            }
            e => panic!("{e:?}"),
        }
        let rounds = 10_000;
        let t0 = time::tsc();
        for _ in 0..rounds {
            assert!(matches!(task::enter_guest(), Exit::Exception(_)));
        }
        say(&format!("guest #PF round trip: {} TSC", (time::tsc() - t0) / rounds));
        let mut b = [0; 8];
        let t0 = time::tsc();
        for _ in 0..rounds {
            assert!(SLOT.read(0x20000, &mut b).is_err());
        }
        say(&format!("user-copy #PF round trip: {} TSC", (time::tsc() - t0) / rounds));
        // ud2, then div by zero
        t.set_resume(place(&[0x0f, 0x0b]));
        assert!(matches!(task::enter_guest(), Exit::Exception(e) if e.vector == 6));
        t.set_gpr(1, 0);
        t.set_resume(place(&[0xf7, 0xf1]));
        assert!(matches!(task::enter_guest(), Exit::Exception(e) if e.vector == 0));
        t.set_resume(place(&[0xcc]));
        assert!(matches!(task::enter_guest(), Exit::Exception(e) if e.vector == 3));
        t.set_resume(place(&[0xf4]));
        assert!(matches!(task::enter_guest(), Exit::Exception(e) if e.vector == 13));
        say("faults ok");
    }

    fn vectors(t: &Task) {
        let mut x = t.xsave();
        x[512] = 7;
        x[24..28].copy_from_slice(&0x9f80u32.to_le_bytes());
        x[160..416].fill(0x5a);
        x[576..832].fill(0xa5);
        x[0..2].copy_from_slice(&0x27fu16.to_le_bytes());
        assert!(t.set_xsave(&x));
        let at = place_syscall(&[], 1);
        t.set_resume(at);
        assert_eq!(task::enter_guest(), Exit::Syscall);
        // An OCALL clobbers all host vectors; the guest's must survive it, a second one, a fault and a switch.
        say("vectors");
        say("vectors, again");
        t.set_resume(place(&[0x0f, 0x0b]));
        assert!(matches!(task::enter_guest(), Exit::Exception(_)));
        let y = t.xsave();
        assert_eq!(y[24..28], x[24..28]);
        assert_eq!(y[160..416], x[160..416]);
        assert_eq!(y[576..832], x[576..832]);
        assert_eq!(y[..2], x[..2]);
        let mut bad = x;
        bad[513] = 1;
        assert!(!t.set_xsave(&bad));
        bad = x;
        bad[27] = 1;
        assert!(!t.set_xsave(&bad));
        t.reset_vector_state();
        assert!(t.xsave()[160..416].iter().all(|b| *b == 0));
        say("vectors ok");
    }

    fn tables(t: &Task) {
        assert!(!code::table_set(SLOT, Kind::Ret, 0x12345, place(&[0x90])));
        let missing = |offs: core::ops::Range<u32>, few: bool| {
            let around = if few { Around::Block } else { Around::Gap(2) };
            code::table_missing(SLOT, Kind::Ret, offs, around)
        };
        assert!(missing(0xffff..0x10000, false).is_empty());
        assert!(missing(1 << 31..(1 << 31) + 1, true).is_empty());
        let (page, block) = (0x12345 / 1024, 0x12345 / 4096 * 4);
        assert_eq!(missing(0x12345..0x12346, true), [block..block + 4]);
        assert_eq!(missing(0x12345..0x12346, false), [page..page + 1]);
        assert_eq!(code::table_commit(SLOT, Kind::Ret, page..page + 1), Committed::InPlace);
        assert!(
            missing(0x12345..0x12346, false).is_empty() && code::table_is_there(SLOT, Kind::Ret, 0x12345)
        );
        assert!(!code::table_is_there(SLOT, Kind::Call, 0x12345));
        // What lies between near neighbours comes in with them; what is there is none of it.
        let beyond = |n: u64| ((page + n) * 1024) as u32..((page + n) * 1024 + 1) as u32;
        assert_eq!(missing(beyond(3), false), [page + 1..page + 4]);
        assert_eq!(missing(beyond(4), false), [page + 4..page + 5]);
        assert_eq!(missing(0x12345..0x12fff, true), [page + 1..block + 4]);
        let wide = code::table_missing(SLOT, Kind::Ret, beyond(9), Around::Gap(8));
        assert_eq!(wide, [page + 1..page + 10]);
        // mov $0x12345,%r11d; not %r11; movl %gs:(,%r11,4),%r11d; jmp *%r11
        let lookup = [
            0x41, 0xbb, 0x45, 0x23, 0x01, 0, 0x49, 0xf7, 0xd3, 0x65, 0x46, 0x8b, 0x1c, 0x9d, 0, 0, 0, 0,
            0x41, 0xff, 0xe3,
        ];
        let at = place(&lookup);
        t.set_resume(at);
        SLOT.write(0x12000 - 8, &0x4567u64.to_le_bytes()).unwrap();
        assert_eq!(task::enter_guest(), Exit::MissRet(0x4567));
        let target = place_syscall(&[], 5);
        assert!(code::table_set(SLOT, Kind::Ret, 0x12345, target));
        t.set_resume(at);
        assert_eq!(task::enter_guest(), Exit::Syscall);
        code::table_clear(SLOT, 0x12000, 0x13000);
        t.set_resume(at);
        assert!(matches!(task::enter_guest(), Exit::MissRet(_)));
        // An uncommitted page faults at the lookup.
        let mut far = lookup;
        far[2..6].copy_from_slice(&0x40_0000u32.to_le_bytes());
        t.set_resume(place(&far));
        match task::enter_guest() {
            Exit::Exception(e) => {
                assert_eq!(code::is_table_addr(SLOT, e.fault_addr), Some((Kind::Ret, 0x40_0000)));
            }
            e => panic!("{e:?}"),
        }
        assert_eq!(code::is_table_addr(SLOT, 5), None);
        assert_eq!(code::table_release(SLOT), 1);
        assert!(!code::table_set(SLOT, Kind::Ret, 0x12345, target) && code::table_release(SLOT) == 0);
        say("tables ok");
    }

    fn current(t: u64) -> bool {
        task::current_tag() == t
    }

    /// Counts in guest code under a tick: kicks come at any instruction of the loop, and nothing is lost.
    fn spin_task() -> ! {
        let Some(t) = OTHER.get() else { panic!("no task") };
        let slot = Slot::new(10 + task::current_tag() as u32);
        slot.protect(0x10000, 0x1000, R | W, true, false).unwrap();
        t.set_slot(slot);
        t.set_gpr(4, 0x10800);
        ocall::call(Ocall::Tick, &[1, 100_000], &[], &mut []);
        // 9: lea 1(%rax),%rax ; lea 2(%rdx),%rdx ; lea -1(%rcx),%rcx ; jrcxz +2 ; jmp 9b ; then the syscall
        let body = [0x48, 0x8d, 0x40, 1, 0x48, 0x8d, 0x52, 2, 0x48, 0x8d, 0x49, 0xff, 0xe3, 2, 0xeb, 0xf0];
        let at = place_syscall(&body, 9);
        let n = 50_000_000;
        t.set_gpr(0, 0);
        t.set_gpr(2, 0);
        t.set_gpr(1, n);
        t.set_resume(at);
        let mut kicks = 0;
        let tag = task::current_tag();
        loop {
            match task::enter_guest() {
                Exit::Kick => kicks += 1,
                Exit::Syscall => break,
                e => panic!("{e:?}"),
            }
            assert!(current(tag));
        }
        assert_eq!((t.gpr(0), t.gpr(2)), (n, 2 * n));
        ocall::call(Ocall::Tick, &[0, 0], &[], &mut []);
        say(&format!("task {tag}: {kicks} kicks on vCPU {}, nothing lost", occlum_rt::vcpu::current()));
        LEFT.set(LEFT.get() - 1);
        if LEFT.get() == 0 {
            say("all ok");
            finish(42);
        }
        task::exit_to_idle()
    }

    /// What the host did not give is zero, not what was there.
    fn outputs() {
        let mut out = [7; 64];
        assert!(ocall::call(Ocall::Readlink, &[ANYWHERE], b"/no/such/link", &mut out) < 0);
        assert!(out == [0; 64]);
        out = [7; 64];
        let n = ocall::call(Ocall::Readlink, &[ANYWHERE], b"/proc/self", &mut out) as usize;
        assert!(
            (1..10).contains(&n)
                && out[..n].iter().all(u8::is_ascii_digit)
                && out[n..].iter().all(|b| *b == 0)
        );
        say("outputs ok");
    }

    fn main_task() -> ! {
        heap();
        copies();
        limits();
        gate();
        outputs();
        let me: *const () = core::ptr::null();
        let _ = me;
        let Some(t) = Task::new(guest_task, 2) else { panic!("no task") };
        let t: &'static Task = alloc::boxed::Box::leak(alloc::boxed::Box::new(t));
        OTHER.set(Some(t));
        for _ in 0..3 {
            drop(Task::new(guest_task, 3));
        }
        // Go through the idle context, which never comes back here.
        READY.with_mut(Vec::clear);
        occlum_rt::vcpu::count();
        task_to(t)
    }

    fn task_to(t: &'static Task) -> ! {
        // The main task's own handle was leaked by vcpu_main; its context is the current one.
        NEXT.set(Some(t));
        let n = occlum_rt::vcpu::count();
        LEFT.set(n);
        for i in 0..n {
            SPINNERS.with_mut(|s| s.push(Task::new(spin_task, u64::from(10 + i)).unwrap()));
        }
        READY.with_mut(|r| r.push(Task::new(trampoline, 4).unwrap()));
        task::exit_to_idle()
    }

    static NEXT: BklCell<Option<&'static Task>> = BklCell::new(None);
    static SPINNERS: BklCell<Vec<Task>> = BklCell::new(Vec::new());

    fn trampoline() -> ! {
        let (Some(me), Some(t)) = (OTHER.get(), NEXT.get()) else { panic!("no task") };
        BACK.set(Some(me));
        task::switch(me, t);
        let rounds = 100_000;
        let t0 = time::tsc();
        for _ in 0..rounds {
            task::switch(me, t);
        }
        say(&format!("two task switches: {} TSC", (time::tsc() - t0) / rounds));
        let all = SPINNERS.take();
        READY.with_mut(|r| r.extend(all));
        for v in 0..occlum_rt::vcpu::count() {
            ocall::call(Ocall::Wake, &[u64::from(v), 0], &[], &mut []);
        }
        task::exit_to_idle()
    }
    static BACK: BklCell<Option<&'static Task>> = BklCell::new(None);

    fn guest_task() -> ! {
        let (Some(t), Some(back)) = (NEXT.get(), BACK.get()) else { panic!("no task") };
        guest(t);
        loop {
            task::switch(t, back);
        }
    }
}

#[cfg(not(panic = "abort"))]
fn main() {}
