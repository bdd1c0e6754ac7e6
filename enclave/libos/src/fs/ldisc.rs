//! The line discipline of a pseudo-terminal (`pty`): what Linux's N_TTY makes of bytes on their way in and out.
//!
//! A state machine over kernel buffers; it knows no tasks, files or user memory. Input: `receive` edits, echoes and asks
//! for signals; `read` hands out lines (canonical) or bytes. Output: `send` processes for the master, `drain` hands out.
//! Invariants: `committed <= input.len()`; what is behind `committed` is the line being edited; both directions are
//! bounded, so a peer that never reads holds at most a few pages.
use super::prelude::*;

/// Most bytes that wait for a reader; a line that is not ended may take one less.
const INPUT_MAX: usize = 4096;
/// Most bytes of output that wait for the master before writers do.
const OUTPUT_MAX: usize = 8192;
/// What echo may add beyond that.
const ECHO_MAX: usize = 4096;
/// Most bytes that the master may write ahead of processing.
const AHEAD_MAX: usize = 8192;

const ISTRIP: u32 = 0o40;
const INLCR: u32 = 0o100;
const IGNCR: u32 = 0o200;
const ICRNL: u32 = 0o400;
const IUCLC: u32 = 0o1000;
const IXON: u32 = 0o2000;
const IXANY: u32 = 0o4000;
const IMAXBEL: u32 = 0o20000;
const IUTF8: u32 = 0o40000;
const PARMRK: u32 = 0o10;

const OPOST: u32 = 1;
const OLCUC: u32 = 2;
const ONLCR: u32 = 4;
const OCRNL: u32 = 0o10;
const ONOCR: u32 = 0o20;
const ONLRET: u32 = 0o40;
const XTABS: u32 = 0o14000;

const ISIG: u32 = 1;
const ICANON: u32 = 2;
const ECHO: u32 = 0o10;
const ECHOE: u32 = 0o20;
const ECHOK: u32 = 0o40;
const ECHONL: u32 = 0o100;
const NOFLSH: u32 = 0o200;
const ECHOCTL: u32 = 0o1000;
const ECHOPRT: u32 = 0o2000;
const ECHOKE: u32 = 0o4000;
const IEXTEN: u32 = 0o100000;

const VINTR: usize = 0;
const VQUIT: usize = 1;
const VERASE: usize = 2;
const VKILL: usize = 3;
const VEOF: usize = 4;
const VTIME: usize = 5;
const VMIN: usize = 6;
const VSTART: usize = 8;
const VSTOP: usize = 9;
const VSUSP: usize = 10;
const VEOL: usize = 11;
const VREPRINT: usize = 12;
const VWERASE: usize = 14;
const VLNEXT: usize = 15;
const VEOL2: usize = 16;

/// Bytes of packet mode (`TIOCPKT`).
pub mod packet {
    /// The input queue was flushed.
    pub const FLUSH_READ: u8 = 1;
    /// The output queue was flushed.
    pub const FLUSH_WRITE: u8 = 2;
    /// Output is stopped.
    pub const STOP: u8 = 4;
    /// Output goes on.
    pub const START: u8 = 8;
    /// ^S and ^Q mean nothing.
    pub const NO_STOP: u8 = 16;
    /// ^S and ^Q stop and start.
    pub const DO_STOP: u8 = 32;
}

/// `struct termios` of the kernel.
#[derive(Clone, Copy)]
pub struct Termios {
    iflag: u32,
    oflag: u32,
    cflag: u32,
    lflag: u32,
    line: u8,
    cc: [u8; 19],
}

impl Default for Termios {
    fn default() -> Self {
        let mut cc = [0; 19];
        cc[..17].copy_from_slice(&[3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0]);
        let lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
        // B38400, 8 bits, receiver on.
        Self { iflag: ICRNL | IXON, oflag: OPOST | ONLCR, cflag: 0xbf, lflag, line: 0, cc }
    }
}

impl Termios {
    /// Size of the structure.
    pub const SIZE: usize = 36;
    /// From a program's bytes. A pseudo-terminal always has eight bits, no parity and a receiver.
    pub fn from_bytes(b: &[u8; Self::SIZE]) -> Self {
        const CSIZE_PARENB: u32 = 0o60 | 0o400;
        const CS8_CREAD: u32 = 0o60 | 0o200;
        let word = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        Self {
            iflag: word(0),
            oflag: word(4),
            cflag: word(8) & !CSIZE_PARENB | CS8_CREAD,
            lflag: word(12),
            line: b[16],
            cc: core::array::from_fn(|i| b[17 + i]),
        }
    }
    /// As a program sees it.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut b = [0; Self::SIZE];
        for (i, w) in [self.iflag, self.oflag, self.cflag, self.lflag].iter().enumerate() {
            b[4 * i..4 * i + 4].copy_from_slice(&w.to_le_bytes());
        }
        b[16] = self.line;
        b[17..].copy_from_slice(&self.cc);
        b
    }
    /// Size of the older `struct termio`.
    pub const OLD_SIZE: usize = 18;
    /// The older structure: 16-bit flags, eight characters.
    pub fn to_old_bytes(self) -> [u8; Self::OLD_SIZE] {
        let mut b = [0; Self::OLD_SIZE];
        for (i, w) in [self.iflag, self.oflag, self.cflag, self.lflag].iter().enumerate() {
            b[2 * i..2 * i + 2].copy_from_slice(&w.to_le_bytes()[..2]);
        }
        b[8] = self.line;
        b[9..17].copy_from_slice(&self.cc[..8]);
        b
    }
    /// These modes with the parts that the older structure knows replaced.
    pub fn with_old_bytes(self, b: &[u8; Self::OLD_SIZE]) -> Self {
        let mut all = self.to_bytes();
        for i in 0..4 {
            all[4 * i..4 * i + 2].copy_from_slice(&b[2 * i..2 * i + 2]);
        }
        all[16..25].copy_from_slice(&b[8..17]);
        Self::from_bytes(&all)
    }
    /// Does background output stop its writer?
    pub fn tostop(&self) -> bool {
        self.lflag & TOSTOP != 0
    }
    fn is_start_stop_usual(&self) -> bool {
        self.iflag & IXON != 0 && self.cc[VSTOP] == 19 && self.cc[VSTART] == 17
    }
    /// Is `c` this special character? Zero switches one off.
    fn is(&self, which: usize, c: u8) -> bool {
        c != 0 && self.cc[which] == c
    }
}

/// A byte of input, and whether a line ends behind it.
#[derive(Clone, Copy)]
struct Unit {
    byte: u8,
    end: bool,
    /// Stands for end of file: ends a line and is not part of it.
    eof: bool,
}

/// Which characters an erase takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Char,
    Word,
    Line,
}

/// How a character is echoed.
enum Shown {
    AsIs,
    /// Control characters as ^X, if the modes say so.
    Visibly,
}

/// The state of one terminal; at first with the usual modes.
#[derive(Default)]
pub struct Ldisc {
    termios: Termios,
    ahead: VecDeque<u8>,
    input: VecDeque<Unit>,
    committed: usize,
    output: VecDeque<u8>,
    column: usize,
    /// Column at which the line being edited began.
    line_column: usize,
    quoted: bool,
    erasing: bool,
    /// By ^S, and by TCXONC.
    stopped: bool,
    held: bool,
    /// Packet-mode events since the master looked.
    status: u8,
    signals: Vec<i32>,
    /// While output is stopped: how much of it was sent before.
    sent: Option<usize>,
    /// While bytes are processed: how long the output was before.
    batch: Option<usize>,
}

fn is_control(c: u8) -> bool {
    c < 32 || c == 127
}
/// As the kernel's `isalnum`, which takes bytes for Latin-1.
fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c >= 0xc0 && c != 0xd7 && c != 0xf7
}
fn to_lower(c: u8) -> u8 {
    if matches!(c, b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde) { c + 32 } else { c }
}
fn to_upper(c: u8) -> u8 {
    if matches!(c, b'a'..=b'z' | 0xe0..=0xf6 | 0xf8..=0xfe) { c - 32 } else { c }
}
fn is_continuation(c: u8) -> bool {
    c & 0xc0 == 0x80
}

impl Ldisc {
    /// The modes.
    pub fn termios(&self) -> Termios {
        self.termios
    }
    fn iflag(&self, bit: u32) -> bool {
        self.termios.iflag & bit != 0
    }
    fn lflag(&self, bit: u32) -> bool {
        self.termios.lflag & bit != 0
    }
    fn canonical(&self) -> bool {
        self.lflag(ICANON)
    }
    /// Sets the modes. A change between lines and bytes keeps what waits: as one line, or as bytes.
    pub fn set_termios(&mut self, new: Termios) {
        let old = core::mem::replace(&mut self.termios, new);
        if (old.lflag ^ new.lflag) & ICANON != 0 {
            self.input.iter_mut().for_each(|u| u.end = false);
            if new.lflag & ICANON != 0
                && let Some(last) = self.input.back_mut()
            {
                last.end = true;
            }
            self.committed = self.input.len();
            self.quoted = false;
            self.erasing = false;
        }
        if old.iflag & IXON != 0 && new.iflag & IXON == 0 {
            self.start();
        }
        if old.is_start_stop_usual() != new.is_start_stop_usual() {
            let now = if new.is_start_stop_usual() { packet::DO_STOP } else { packet::NO_STOP };
            self.status = self.status & !(packet::DO_STOP | packet::NO_STOP) | now;
        }
        self.work();
    }

    /// Takes bytes from the master, as many as there is room for.
    pub fn receive(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.receive_room());
        self.ahead.extend(&data[..n]);
        self.batch = Some(self.output.len());
        self.work();
        self.batch = None;
        n
    }
    /// How many bytes `receive` would take.
    pub fn receive_room(&self) -> usize {
        AHEAD_MAX - self.ahead.len()
    }
    /// Signals that keys asked for since the last look.
    pub fn take_signals(&mut self) -> Vec<i32> {
        core::mem::take(&mut self.signals)
    }
    /// Processes what waits, until the reader has to make room.
    fn work(&mut self) {
        while self.input.len() < INPUT_MAX - 1 || self.canonical() && self.committed == 0 {
            let Some(c) = self.ahead.pop_front() else { break };
            self.receive_one(c);
        }
    }

    fn receive_one(&mut self, c: u8) {
        let mut c = if self.iflag(ISTRIP) { c & 0x7f } else { c };
        if self.iflag(IUCLC) && self.lflag(IEXTEN) {
            c = to_lower(c);
        }
        if self.quoted {
            self.quoted = false;
            return self.plain(c);
        }
        if self.flow_key(c) || self.signal_key(c) {
            return;
        }
        if self.stopped && self.iflag(IXON) && self.iflag(IXANY) {
            self.start();
        }
        match c {
            b'\r' if self.iflag(IGNCR) => return,
            // Outside a line, a newline that was typed shows as ^J, one that was Return does not.
            b'\r' if self.iflag(ICRNL) && !self.canonical() => return self.put_in(b'\n', Shown::AsIs),
            b'\r' if self.iflag(ICRNL) => c = b'\n',
            b'\n' if self.iflag(INLCR) => c = b'\r',
            _ => {}
        }
        if !(self.canonical() && self.line_key(c)) {
            self.plain(c);
        }
    }
    fn flow_key(&mut self, c: u8) -> bool {
        if !self.iflag(IXON) {
            return false;
        }
        if self.termios.is(VSTART, c) {
            self.start();
            return true;
        }
        if self.termios.is(VSTOP, c) {
            self.stop();
            return true;
        }
        false
    }
    fn signal_key(&mut self, c: u8) -> bool {
        const KEYS: [(usize, i32); 3] = [(VINTR, SIGINT), (VQUIT, SIGQUIT), (VSUSP, SIGTSTP)];
        if !self.lflag(ISIG) {
            return false;
        }
        let Some((_, signal)) = KEYS.iter().find(|(key, _)| self.termios.is(*key, c)) else { return false };
        self.signal(*signal);
        if self.iflag(IXON) {
            self.start();
        }
        if self.lflag(ECHO) {
            self.echo_shown(c);
        }
        true
    }
    /// A signal for the foreground group; what waits is dropped, unless NOFLSH.
    pub fn signal(&mut self, signal: i32) {
        if !self.lflag(NOFLSH) {
            // The rest of what came together is still to be processed.
            let ahead = core::mem::take(&mut self.ahead);
            self.flush_input();
            self.ahead = ahead;
            self.flush_output();
        }
        self.signals.push(signal);
    }
    /// A key that edits or ends the line. False: an ordinary character.
    fn line_key(&mut self, c: u8) -> bool {
        let t = self.termios;
        let extended = self.lflag(IEXTEN);
        let erase = match c {
            _ if t.is(VERASE, c) => Some(Erase::Char),
            _ if t.is(VKILL, c) => Some(Erase::Line),
            _ if t.is(VWERASE, c) && extended => Some(Erase::Word),
            _ => None,
        };
        if let Some(kind) = erase {
            self.erase(c, kind);
            return true;
        }
        if t.is(VLNEXT, c) && extended {
            self.quoted = true;
            if self.lflag(ECHO) {
                self.finish_erasing();
                let mark: &[u8] = if self.lflag(ECHOCTL) { b"^\x08" } else { b"" };
                self.echo(mark);
            }
            return true;
        }
        if t.is(VREPRINT, c) && self.lflag(ECHO) && extended {
            self.reprint(c);
            return true;
        }
        if c == b'\n' {
            if self.lflag(ECHO) || self.lflag(ECHONL) {
                self.echo(b"\n");
            }
            self.end_line(c, false);
            return true;
        }
        if t.is(VEOF, c) {
            self.end_line(0, true);
            return true;
        }
        if t.is(VEOL, c) || t.is(VEOL2, c) && extended {
            self.echo_in_line(c);
            self.put_marked(c);
            self.end_line(c, false);
            return true;
        }
        false
    }
    /// An ordinary character.
    fn plain(&mut self, c: u8) {
        self.put_in(c, Shown::Visibly);
    }
    fn put_in(&mut self, c: u8, shown: Shown) {
        if self.input.len() >= INPUT_MAX - 1 {
            if self.iflag(IMAXBEL) {
                self.echo(b"\x07");
            }
            return;
        }
        if self.lflag(ECHO) {
            self.finish_erasing();
        }
        match shown {
            Shown::Visibly => self.echo_in_line(c),
            Shown::AsIs if self.lflag(ECHO) => self.echo(&[c]),
            Shown::AsIs => {}
        }
        self.put_marked(c);
        self.push(c, false, false);
        if !self.canonical() {
            self.committed = self.input.len();
        }
    }
    fn put_marked(&mut self, c: u8) {
        if c == 0xff && self.iflag(PARMRK) {
            self.push(c, false, false);
        }
    }
    fn push(&mut self, byte: u8, end: bool, eof: bool) {
        self.input.push_back(Unit { byte, end, eof });
    }
    fn end_line(&mut self, c: u8, eof: bool) {
        self.push(c, true, eof);
        self.committed = self.input.len();
    }

    fn echo_in_line(&mut self, c: u8) {
        if !self.lflag(ECHO) {
            return;
        }
        if self.committed == self.input.len() {
            self.line_column = self.column;
        }
        self.echo_shown(c);
    }
    fn finish_erasing(&mut self) {
        if core::mem::take(&mut self.erasing) {
            self.echo(b"/");
        }
    }
    /// Echoes a character, control characters as ^X.
    fn echo_shown(&mut self, c: u8) {
        if self.lflag(ECHOCTL) && is_control(c) && c != b'\t' {
            // As in Linux, this pair counts as two columns in any mode.
            self.output.extend([b'^', c ^ 0x40]);
            self.column += 2;
        } else {
            self.echo(&[c]);
        }
    }
    fn echo(&mut self, data: &[u8]) {
        for c in data {
            if self.output.len() < OUTPUT_MAX + ECHO_MAX {
                self.process(*c);
            }
        }
    }
    fn reprint(&mut self, c: u8) {
        self.finish_erasing();
        self.echo_shown(c);
        self.echo(b"\n");
        let line: Vec<u8> = self.input.iter().skip(self.committed).map(|u| u.byte).collect();
        line.into_iter().for_each(|c| self.echo_shown(c));
    }
    fn erase(&mut self, key: u8, kind: Erase) {
        if self.input.len() == self.committed {
            return;
        }
        let visibly = self.lflag(ECHOK) && self.lflag(ECHOKE) && self.lflag(ECHOE);
        if kind == Erase::Line && !(self.lflag(ECHO) && visibly) {
            self.input.truncate(self.committed);
            if self.lflag(ECHO) {
                self.finish_erasing();
                self.echo_shown(key);
                if self.lflag(ECHOK) {
                    self.echo(b"\n");
                }
            }
            return;
        }
        let mut in_word = false;
        while self.input.len() > self.committed {
            let (c, units) = self.last_char();
            // A part of a character is not erased.
            if self.iflag(IUTF8) && is_continuation(c) {
                break;
            }
            if kind == Erase::Word {
                if is_word(c) {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            let taken: Vec<u8> = self.input.drain(self.input.len() - units..).map(|u| u.byte).collect();
            if self.lflag(ECHO) {
                self.show_erased(c, key, &taken, kind);
            }
            if kind == Erase::Char {
                break;
            }
        }
        if self.input.len() == self.committed && self.lflag(ECHO) {
            self.finish_erasing();
        }
    }
    /// The last character of the line: its first byte and how many bytes it has.
    fn last_char(&self) -> (u8, usize) {
        let mut units = 1;
        let at = |back: usize| self.input[self.input.len() - back].byte;
        let max = self.input.len() - self.committed;
        while self.iflag(IUTF8) && is_continuation(at(units)) && units < max {
            units += 1;
        }
        (at(units), units)
    }
    fn show_erased(&mut self, c: u8, key: u8, taken: &[u8], kind: Erase) {
        if self.lflag(ECHOPRT) {
            if !self.erasing {
                self.echo(b"\\");
                self.erasing = true;
            }
            self.echo_shown(c);
            return self.echo(&taken[1..]);
        }
        if kind == Erase::Char && !self.lflag(ECHOE) {
            return self.echo_shown(key);
        }
        if c == b'\t' {
            let back = self.tab_width();
            self.output.extend(core::iter::repeat_n(8, back));
            self.column = self.column.saturating_sub(back);
            return;
        }
        if !is_control(c) || self.lflag(ECHOCTL) {
            self.echo(b"\x08 \x08");
        }
        if is_control(c) && self.lflag(ECHOCTL) {
            self.echo(b"\x08 \x08");
        }
    }
    /// Columns that the tab took which was just removed from the end of the line.
    fn tab_width(&self) -> usize {
        let mut before = 0;
        let mut after_tab = false;
        for u in self.input.iter().skip(self.committed).rev() {
            match u.byte {
                b'\t' => {
                    after_tab = true;
                    break;
                }
                c if is_control(c) => before += if self.lflag(ECHOCTL) { 2 } else { 0 },
                c if self.iflag(IUTF8) && is_continuation(c) => {}
                _ => before += 1,
            }
        }
        if !after_tab {
            before += self.line_column;
        }
        8 - before % 8
    }

    /// Processes output of a program; how many bytes were taken.
    pub fn send(&mut self, data: &[u8]) -> usize {
        let mut n = 0;
        for c in data {
            if !self.can_send() {
                break;
            }
            self.process(*c);
            n += 1;
        }
        n
    }
    /// Is there room for output, and is it not stopped?
    pub fn can_send(&self) -> bool {
        self.output.len() < OUTPUT_MAX && !self.stopped && !self.held
    }
    fn process(&mut self, c: u8) {
        let flag = |bit: u32| self.termios.oflag & bit != 0;
        if !flag(OPOST) {
            return self.output.push_back(c);
        }
        match c {
            b'\n' => {
                if flag(ONLCR) {
                    self.output.push_back(b'\r');
                }
                if flag(ONLCR) || flag(ONLRET) {
                    self.column = 0;
                }
                self.output.push_back(c);
            }
            b'\r' if flag(ONOCR) && self.column == 0 => {}
            b'\r' if flag(OCRNL) => {
                if flag(ONLRET) {
                    self.column = 0;
                }
                self.output.push_back(b'\n');
            }
            b'\r' => {
                self.column = 0;
                self.output.push_back(c);
            }
            b'\t' => {
                let width = 8 - self.column % 8;
                self.column += width;
                if flag(XTABS) {
                    self.output.extend(core::iter::repeat_n(b' ', width));
                } else {
                    self.output.push_back(c);
                }
            }
            b'\x08' => {
                self.column = self.column.saturating_sub(1);
                self.output.push_back(c);
            }
            _ => {
                let shown = if flag(OLCUC) { to_upper(c) } else { c };
                let hidden = is_control(c) || self.iflag(IUTF8) && is_continuation(c);
                if !hidden {
                    self.column += 1;
                }
                self.output.push_back(shown);
            }
        }
    }
    /// Bytes that the master can read.
    pub fn output_len(&self) -> usize {
        self.sent.unwrap_or(self.output.len())
    }
    /// Takes up to `max` bytes for the master.
    pub fn drain(&mut self, max: usize) -> Vec<u8> {
        let n = max.min(self.output_len());
        self.sent = self.sent.map(|s| s - n);
        self.output.drain(..n).collect()
    }
    /// After a change of `stopped` or `held`: while either holds, echo waits too.
    fn flow_changed(&mut self) {
        let stopped = self.stopped || self.held;
        self.sent = stopped.then(|| self.output_len());
    }

    /// Stops output (^S, TCOOFF).
    pub fn stop(&mut self) {
        if !core::mem::replace(&mut self.stopped, true) {
            self.status = self.status & !packet::START | packet::STOP;
            self.flow_changed();
        }
    }
    /// Output goes on (^Q, TCOON).
    pub fn start(&mut self) {
        if core::mem::replace(&mut self.stopped, false) {
            self.status = self.status & !packet::STOP | packet::START;
            self.flow_changed();
        }
    }
    /// TCXONC's stop, which keys do not undo.
    pub fn hold(&mut self, on: bool) {
        if core::mem::replace(&mut self.held, on) != on {
            let (set, clear) = if on { (packet::STOP, packet::START) } else { (packet::START, packet::STOP) };
            self.status = self.status & !clear | set;
            self.flow_changed();
        }
    }
    /// The START or STOP character, for TCXONC's TCIOFF and TCION.
    pub fn flow_char(&self, stop: bool) -> u8 {
        self.termios.cc[if stop { VSTOP } else { VSTART }]
    }
    /// Drops what no program has read.
    pub fn flush_input(&mut self) {
        self.ahead.clear();
        self.input.clear();
        self.committed = 0;
        self.quoted = false;
        self.erasing = false;
        self.status |= packet::FLUSH_READ;
    }
    /// Drops the echo of the bytes that are being processed; what was sent before is the master's already.
    pub fn flush_output(&mut self) {
        if let Some(before) = self.batch {
            self.output.truncate(before);
        }
        self.sent = self.sent.map(|s| s.min(self.output.len()));
        self.status |= packet::FLUSH_WRITE;
    }
    /// Packet-mode events since the last look.
    pub fn take_status(&mut self) -> u8 {
        core::mem::take(&mut self.status)
    }
    /// The same, without taking them.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Bytes that a program can read: in canonical mode those of whole lines.
    pub fn readable(&self) -> usize {
        let ready = self.input.iter().take(self.committed);
        ready.filter(|u| !u.eof || !self.canonical()).count()
    }
    /// (VMIN, VTIME in ns) that govern a read; `None` in canonical mode.
    pub fn raw_wait(&self) -> Option<(usize, u64)> {
        let cc = &self.termios.cc;
        (!self.canonical()).then(|| (usize::from(cc[VMIN]), u64::from(cc[VTIME]) * 100_000_000))
    }
    /// Is there a line (canonical), or are there `min` bytes?
    pub fn has_input(&self, min: usize) -> bool {
        self.committed >= if self.canonical() { 1 } else { min.max(1) }
    }
    /// Takes a line or a part of it, or bytes: at most `max`. Empty: end of file, or nothing there.
    pub fn read(&mut self, max: usize) -> Vec<u8> {
        let lines = self.canonical();
        let mut out = Vec::new();
        while self.committed > 0 {
            let Some(u) = self.input.front().copied() else { break };
            if out.len() == max && !(lines && u.eof) {
                break;
            }
            self.input.pop_front();
            self.committed -= 1;
            if !(lines && u.eof) {
                out.push(u.byte);
            }
            if lines && u.end {
                break;
            }
        }
        self.work();
        out
    }
}
