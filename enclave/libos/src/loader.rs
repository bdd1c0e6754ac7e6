//! exec: finds the program, reads ELF files and `#!` lines, builds a new domain with stack and auxiliary vector.
//!
//! Neighbours: `occlum-elf` (hostile-input reader), `mm`, `fs`. Invariants: nothing of the caller changes before the
//! point of no return; after it only resource exhaustion can fail, and then the process is killed.
use crate::errno::{Errno, Result};
use crate::fs::{FileTable, OpenFile};
use crate::mm::{Backing, Layout, MapFile, Mm, PAGE, page_ceil};
use crate::process::{Process, Task, current};
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_elf::ElfImage;
use occlum_linux_abi::{auxv as at, mmap as mf};
use occlum_rt::mem::TryGrow;
use occlum_sfi_spec::domain::{EXEC_MAX, MAP_MAX, MAP_MIN};

/// Base of a position-independent program.
const PIE_BASE: u64 = crate::mm::CODE_TOP;
/// The heap starts here or behind the program: libraries lie too close below for it to grow there.
const BRK_BASE: u64 = PIE_BASE;
/// Most bytes of argv and envp together, pointers included (a quarter of the 8 MiB stack, as Linux).
pub const ARG_MAX: usize = 2 << 20;
/// Most nested `#!` interpreters.
const SCRIPT_DEPTH: usize = 4;
/// Bytes of the initial stack mapping when the limit is unlimited or larger.
const STACK_MAX: u64 = 64 << 20;
/// Bytes of stack below the first frame that are there from the start.
const STACK_PREFAULT: u64 = 32 << 10;
/// AT_HWCAP (cpuid 1 edx as reported by `emulate`).
const HWCAP: u64 = crate::emulate::CPUID_1_EDX as u64;

/// A program ready to be mapped.
struct Program {
    file: Arc<OpenFile>,
    elf: ElfImage,
}

/// What exec was asked for, after `#!` lines were followed.
struct Request {
    program: Program,
    interp: Option<Program>,
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
    exec_path: Vec<u8>,
    /// Whoever executes it could read it as well.
    may_be_read: bool,
}

fn open_elf(file: Arc<OpenFile>) -> Result<Program> {
    let inode = file.inode();
    let size = inode.size();
    let mut failed = None;
    let mut read_at = |off: u64, buf: &mut [u8]| match inode.read_at(off, buf) {
        Ok(n) => n,
        Err(e) => {
            failed = Some(e);
            0
        }
    };
    let parsed = occlum_elf::parse(size, &mut read_at);
    // A file that could not be read is no bad file.
    let elf = parsed.map_err(|e| failed.unwrap_or(e.errno()))?;
    Ok(Program { file, elf })
}

/// Follows `#!` lines, opens the program's interpreter. `path` is what the program was called by.
fn prepare(
    mut file: Arc<OpenFile>,
    path: &[u8],
    mut argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
) -> Result<Request> {
    let mut path = path.to_vec();
    let exec_path = path.clone();
    for _ in 0..=SCRIPT_DEPTH {
        let mut head = [0u8; 256];
        let n = file.inode().read_at(0, &mut head)?;
        if n < 2 || &head[..2] != b"#!" {
            if argv.is_empty() {
                argv.push(Vec::new());
            }
            return finish_prepare(file, argv, envp, exec_path);
        }
        let (interp, arg) = parse_shebang(&head[2..n], n == head.len())?;
        argv.try_room_exact(2).map_err(|_| Errno::ENOMEM)?;
        let name = argv.len().min(1);
        argv.splice(..name, [interp.clone()].into_iter().chain(arg).chain([path]));
        path = interp;
        file = crate::fs::open_exec(&path)?;
    }
    Err(Errno::ELOOP)
}

/// `#! interpreter [one argument]`; ENOEXEC when there is no interpreter or the line was cut inside its name.
fn parse_shebang(line: &[u8], cut: bool) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let end = line.iter().position(|b| *b == b'\n' || *b == 0);
    let text = &line[..end.unwrap_or(line.len())];
    let start = text.iter().position(|b| !blank(b)).ok_or(Errno::ENOEXEC)?;
    let text = &text[start..];
    let name_end = text.iter().position(blank);
    if name_end.is_none() && end.is_none() && cut {
        return Err(Errno::ENOEXEC);
    }
    let (name, rest) = text.split_at(name_end.unwrap_or(text.len()));
    let from = rest.iter().position(|b| !blank(b));
    let to = rest.iter().rposition(|b| !blank(b));
    let arg = match (from, to) {
        (Some(a), Some(b)) => Some(rest[a..=b].to_vec()),
        _ => None,
    };
    Ok((name.to_vec(), arg))
}

fn finish_prepare(
    file: Arc<OpenFile>,
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
    exec_path: Vec<u8>,
) -> Result<Request> {
    let program = open_elf(file)?;
    let interp = match &program.elf.interp {
        None => None,
        Some(range) => Some(open_interp(&program.file, range.start, range.end)?),
    };
    let may_be_read =
        [Some(&program), interp.as_ref()].into_iter().flatten().all(|p| crate::fs::may_read(&p.file));
    Ok(Request { program, interp, argv, envp, exec_path, may_be_read })
}

fn open_interp(file: &Arc<OpenFile>, start: u64, end: u64) -> Result<Program> {
    let len = end.checked_sub(start).filter(|n| (2..=4096).contains(n)).ok_or(Errno::ENOEXEC)?;
    let mut name = alloc::vec![0u8; len as usize];
    let n = file.inode().read_at(start, &mut name)?;
    if n as u64 != len || name.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    let interp = open_elf(crate::fs::open_exec(&name)?).map_err(|e| match e {
        Errno::ENOEXEC => Errno::ELIBBAD,
        e => e,
    })?;
    Ok(interp)
}

/// Maps the load segments at `bias`; returns the end of the highest.
fn map_program(mm: &Mm, p: &Program, bias: u64) -> Result<u64> {
    let mut top = 0;
    for s in &p.elf.segments {
        let vaddr = s.vaddr.checked_add(bias).ok_or(Errno::ENOMEM)?;
        let start = vaddr & !(PAGE - 1);
        let file_end = page_ceil(vaddr + s.filesz);
        let mem_end = page_ceil(vaddr + s.memsz);
        let prot = s.prot();
        if s.filesz > 0 {
            let off = s.file_off - (vaddr - start);
            let backing = Backing::File(MapFile(p.file.clone()), off);
            mm.map(Some(start), 0, file_end - start, prot, backing)?;
        }
        let zero_from = if s.filesz > 0 { file_end } else { start };
        if mem_end > zero_from {
            mm.map(Some(zero_from), 0, mem_end - zero_from, prot, Backing::Anon)?;
        }
        // The rest of the last file page is zero, as far as the segment reaches and is writable.
        let tail = vaddr + s.filesz;
        if s.filesz > 0 && s.memsz > s.filesz && prot & mf::PROT_WRITE != 0 && tail < file_end {
            let zeros = alloc::vec![0u8; (file_end - tail) as usize];
            mm.write_foreign(tail, &zeros)?;
        }
        top = top.max(mem_end);
    }
    Ok(top)
}

fn bias_for(p: &Program, base: u64) -> Result<u64> {
    if !p.elf.is_pie {
        return Ok(0);
    }
    let low = p.elf.segments.first().map_or(0, |s| s.vaddr) & !(PAGE - 1);
    base.checked_sub(low).ok_or(Errno::ENOMEM)
}

/// A range below 2 GiB that holds the whole interpreter.
fn interp_base(mm: &Mm, p: &Program) -> Result<u64> {
    let (Some(first), Some(last)) = (p.elf.segments.first(), p.elf.segments.last()) else {
        return Err(Errno::ELIBBAD);
    };
    let span = page_ceil(last.vaddr + last.memsz) - (first.vaddr & !(PAGE - 1));
    let at = mm.map(None, 0, span, mf::PROT_EXEC, Backing::Anon)?;
    mm.unmap(at..at + span)?;
    Ok(at)
}

/// Go's runtime copies the stacks of its goroutines; its linker leaves a note in every program.
fn moves_stacks(p: &Program) -> bool {
    const BUILD_ID: u32 = 4;
    p.elf.notes.iter().any(|n| {
        let mut bytes = alloc::vec![0u8; (n.end - n.start) as usize];
        let have = p.file.inode().read_at(n.start, &mut bytes).unwrap_or(0);
        occlum_elf::has_note(&bytes[..have], b"Go", BUILD_ID)
    })
}

struct Built {
    mm: Arc<Mm>,
    entry: u64,
    sp: u64,
}

fn build(r: &Request, stack_limit: u64, cred: &crate::process::Cred) -> Result<Built> {
    let mm = Mm::new(MapFile(r.program.file.clone()).id())?;
    let bias = bias_for(&r.program, PIE_BASE)?;
    let top = map_program(&mm, &r.program, bias)?;
    if top > EXEC_MAX || r.program.elf.segments.first().is_some_and(|s| s.vaddr + bias < MAP_MIN) {
        return Err(Errno::ENOMEM);
    }
    let stack_len = page_ceil(stack_limit.clamp(256 << 10, STACK_MAX));
    let stack_top = MAP_MAX - (1 << 20);
    let rw = mf::PROT_READ | mf::PROT_WRITE;
    // The stack lies above EXEC_MAX, so it is never executable, whatever PT_GNU_STACK asks for.
    let stack = mm.map(Some(stack_top - stack_len), 0, stack_len, rw, Backing::Anon)?;
    mm.set_name(stack, crate::mm::STACK);
    let program_entry = r.program.elf.entry.wrapping_add(bias) & 0xffff_ffff;
    let (entry, interp_bias) = match &r.interp {
        None => (program_entry, 0),
        Some(i) => {
            let base = if i.elf.is_pie { interp_base(&mm, i)? } else { 0 };
            let ib = bias_for(i, base)?;
            map_program(&mm, i, ib)?;
            (i.elf.entry.wrapping_add(ib) & 0xffff_ffff, ib)
        }
    };
    let vdso = crate::vdso::map(&mm)?;
    let brk = top.max(BRK_BASE);
    let phdr = r.program.elf.phdr_vaddr.map_or(0, |v| v.wrapping_add(bias));
    let aux = [
        (at::AT_SYSINFO_EHDR, vdso),
        (at::AT_HWCAP, HWCAP),
        (at::AT_PAGESZ, PAGE),
        (at::AT_CLKTCK, 100),
        (at::AT_PHDR, phdr),
        (at::AT_PHENT, 56),
        (at::AT_PHNUM, u64::from(r.program.elf.phnum)),
        (at::AT_BASE, if r.interp.is_some() { interp_bias } else { 0 }),
        (at::AT_FLAGS, 0),
        (at::AT_ENTRY, program_entry),
        (at::AT_UID, u64::from(cred.uid)),
        (at::AT_EUID, u64::from(cred.euid)),
        (at::AT_GID, u64::from(cred.gid)),
        (at::AT_EGID, u64::from(cred.egid)),
        (at::AT_SECURE, 0),
        (at::AT_MINSIGSTKSZ, crate::signal::MIN_SIGSTKSZ),
        (at::AT_HWCAP2, 0),
    ];
    prefault(&mm, &r.program, bias)?;
    let (sp, mut layout) = build_stack(&mm, stack_top, r, &aux)?;
    layout.brk_start = brk;
    layout.brk = brk;
    layout.moves_stacks = moves_stacks(&r.program);
    layout.code = r.program.elf.segments.first().map_or(0..0, |s| s.vaddr + bias..top);
    mm.set_layout(layout);
    mm.hide_parked()?;
    mm.settle_tables();
    Ok(Built { mm, entry, sp })
}

/// Writable segments are touched at once by every program: faults cost more than the pages (a fault is an AEX).
fn prefault(mm: &Mm, p: &Program, bias: u64) -> Result<()> {
    const MOST: u64 = 512 << 10;
    for s in p.elf.segments.iter().filter(|s| s.prot() & mf::PROT_WRITE != 0) {
        let start = (s.vaddr + bias) & !(PAGE - 1);
        let end = page_ceil(s.vaddr + bias + s.memsz).min(start + MOST);
        mm.populate(start..end)?;
    }
    Ok(())
}

/// An empty list with room for so many.
fn room<T>(count: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    list.try_room_exact(count).map_err(|_| Errno::ENOMEM)?;
    Ok(list)
}

/// Strings at the top, then auxv, envp, argv, argc downwards; sp is 16-aligned (System V ABI).
fn build_stack(mm: &Mm, top: u64, r: &Request, aux: &[(u64, u64)]) -> Result<(u64, Layout)> {
    let count = r.argv.len() + r.envp.len();
    let total: usize = r.argv.iter().chain(&r.envp).map(|s| s.len() + 1).sum();
    // The strings, where they are, their pointers, and these as bytes.
    crate::mm::admit((total + 3 * 8 * count) as u64)?;
    let mut strings = room(total + 8192)?;
    let mut at_of = room(count)?;
    for s in r.argv.iter().chain(&r.envp) {
        at_of.push(strings.len() as u64);
        strings.extend_from_slice(s);
        strings.push(0);
    }
    let env_from = r.argv.iter().map(|s| s.len() as u64 + 1).sum::<u64>();
    let strings_len = strings.len() as u64;
    let platform_at = strings.len() as u64;
    strings.extend_from_slice(b"x86_64\0");
    let execfn_at = strings.len() as u64;
    strings.extend_from_slice(&r.exec_path);
    strings.push(0);
    let mut random = [0u8; 16];
    occlum_rt::random::fill(&mut random);
    let random_at = strings.len() as u64;
    strings.extend_from_slice(&random);
    if strings.len() > ARG_MAX + 8192 {
        return Err(Errno::E2BIG);
    }
    let base = (top - 16 - strings.len() as u64) & !15;
    let mut words = room(count + 2 * aux.len() + 64)?;
    words.push(r.argv.len() as u64);
    for (i, at) in at_of.iter().enumerate() {
        if i == r.argv.len() {
            words.push(0);
        }
        words.push(base + at);
    }
    if r.envp.is_empty() {
        words.push(0);
    }
    words.push(0);
    let aux_from = words.len();
    let extra = [
        (at::AT_RANDOM, base + random_at),
        (at::AT_PLATFORM, base + platform_at),
        (at::AT_EXECFN, base + execfn_at),
        (at::AT_NULL, 0),
    ];
    for (k, v) in aux.iter().chain(&extra) {
        words.push(*k);
        words.push(*v);
    }
    let sp = (base - words.len() as u64 * 8) & !15;
    let mut bytes = room(words.len() * 8)?;
    words.iter().for_each(|w: &u64| bytes.extend_from_slice(&w.to_le_bytes()));
    mm.populate((sp & !(PAGE - 1)) - STACK_PREFAULT..top)?;
    mm.write_foreign(base, &strings)?;
    mm.write_foreign(sp, &bytes)?;
    let layout = Layout {
        stack_top: sp,
        args: base..base + env_from,
        env: base + env_from..base + strings_len,
        auxv: bytes[aux_from * 8..].to_vec(),
        ..Layout::default()
    };
    Ok((sp, layout))
}

/// The descriptors that the new program gets. Processes that shared the table (CLONE_FILES) keep the old one.
fn own_files(p: &Process) -> Result<Option<Arc<FileTable>>> {
    match p.files.with(Clone::clone) {
        Some(files) if Arc::strong_count(&files) > 2 => files.dup_all().map(Some),
        files => Ok(files),
    }
}

/// execve for the current task; also the first program's start, for a task that never ran.
pub fn exec(task: &Arc<Task>, path: &[u8], argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) -> Result<()> {
    exec_file(task, crate::fs::open_exec(path)?, path, argv, envp)
}

/// The same for an open program that is called `path`.
fn exec_file(
    task: &Arc<Task>,
    file: Arc<OpenFile>,
    path: &[u8],
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
) -> Result<()> {
    let total: usize = argv.iter().chain(&envp).map(|s| s.len() + 9).sum();
    if total > ARG_MAX {
        return Err(Errno::E2BIG);
    }
    let p = task.process.clone();
    let request = prepare(file, path, argv, envp)?;
    let built = build(&request, p.rlimit(3), &task.cred())?;
    let files = own_files(&p)?;
    // Point of no return.
    if p.tasks.with(Vec::len) > 1 {
        crate::process::kill_other_threads(task)?;
    }
    p.usage();
    let old = p.mm.replace(Some(built.mm.clone()));
    let t = &task.rt;
    t.set_slot(built.mm.slot());
    for n in 0..16 {
        t.set_gpr(n, 0);
    }
    t.set_gpr(4, built.sp);
    t.set_rip(built.entry as u32);
    t.set_rflags(0x202);
    t.set_tls(0);
    t.set_guest_gs(0);
    t.reset_vector_state();
    task.resolve.set(true);
    task.altstack.set((0, 0, 2));
    task.clear_tid.set(0);
    task.robust_list.set(0);
    task.comm.set(comm_of(&request.exec_path));
    p.actions.with_mut(crate::signal::SigActions::reset_for_exec);
    p.flow.take();
    crate::timers::reset_for_exec(&p);
    p.exe.replace(crate::fs::path_of(&request.program.file));
    task.settle_cred();
    let is_own = task.with_cred(|c| c.euid == c.uid && c.egid == c.gid);
    built.mm.dumpable.set(is_own && request.may_be_read);
    task.change_cred(crate::process::Cred::follow_exec);
    p.execed.set(true);
    if let Some(files) = files {
        files.close_on_exec();
        p.files.replace(Some(files));
    }
    crate::process::release_vfork(task);
    old.iter().for_each(|mm| mm.shed(1));
    drop(old);
    crate::stats::add("execs", 1);
    crate::jobs::program_started(&p);
    Ok(())
}

/// The thread name of a program: the last component, at most 15 bytes.
fn comm_of(path: &[u8]) -> [u8; 16] {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    let mut comm = [0; 16];
    let n = name.len().min(15);
    comm[..n].copy_from_slice(&name[..n]);
    comm
}

/// execve's entry for system calls.
pub fn exec_current(file: Arc<OpenFile>, path: &[u8], argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) -> Result<()> {
    exec_file(&current(), file, path, argv, envp)
}
