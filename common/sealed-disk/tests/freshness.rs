//! The trusted store of marks.
//!
//! Invariants that are checked: a crash never leaves a store that its mark refuses, an older state is always refused, and
//! a writer whose mark was refused writes no more.
use occlum_sealed_disk::testing::{Crashes, OneMark, Recorder, Rng, Step};
use occlum_sealed_disk::{BLOCK, Disk, Distrust, Error, Freshness, Key, Mark, MemDevice, Options};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const KEY: Key<'static> = Key::Root(&[7; 32]);
const BLOCKS: usize = 512;

/// A trusted store that remembers after which step of the device it was told what.
#[derive(Clone, Default)]
struct History {
    marks: Arc<Mutex<Vec<(u64, Mark)>>>,
    steps: Arc<AtomicU64>,
    silent: Arc<AtomicBool>,
}

impl Freshness for History {
    fn read(&mut self, _id: &[u8; 16]) -> Result<Option<Mark>, Error> {
        Ok(self.marks.lock().expect("marks").last().map(|m| m.1))
    }
    fn advance(&mut self, id: &[u8; 16], from: Option<&Mark>, to: &Mark) -> Result<(), Error> {
        if self.silent.load(Ordering::Relaxed) {
            return Err(Error::Freshness(Distrust::Unreachable));
        }
        assert_eq!(self.read(id)?.as_ref(), from);
        self.marks.lock().expect("marks").push((self.steps.load(Ordering::Relaxed), *to));
        Ok(())
    }
}

fn content(seed: u64) -> Vec<u8> {
    let mut rng = Rng(seed);
    (0..BLOCK / 8).flat_map(|_| rng.number().to_le_bytes()).collect()
}

fn open(device: MemDevice, mark: Option<Mark>, rng: &mut Rng) -> Result<Disk<MemDevice>, Error> {
    Disk::open(device, KEY, rng, Some(Box::new(OneMark { mark })), Options::default())
}

/// Random work on a new store, with openings in between.
fn work(history: &History, rng: &mut Rng) -> Vec<Step> {
    let device = Recorder { count: history.steps.clone(), ..Recorder::new(BLOCKS) };
    let mut disk =
        Disk::format(device, KEY, rng, Some(Box::new(history.clone())), Options::default()).expect("format");
    for round in 0..120 {
        disk.write(rng.below(60) as u32, &content(round)).expect("write");
        match rng.below(8) {
            0 => disk.checkpoint().expect("checkpoint"),
            1 => {
                let device = disk.close().expect("close");
                disk = Disk::open(device, KEY, rng, Some(Box::new(history.clone())), Options::default())
                    .expect("open");
            }
            2..5 => disk.commit().expect("commit"),
            _ => {}
        }
    }
    disk.close().expect("close").steps
}

#[test]
fn crashes_never_lock_out_and_older_states_are_always_refused() {
    let mut rng = Rng(11);
    let history = History::default();
    let steps = work(&history, &mut rng);
    let marks = history.marks.lock().expect("marks").clone();
    let (mut crashes, mut openings, mut refusals) = (Crashes::new(&steps, BLOCKS), 0, 0);
    for step in marks[0].0 as usize..=steps.len() {
        crashes.advance(step);
        // The crash came after this step: before the mark that follows it, or after it.
        let after = marks.iter().rfind(|m| m.0 <= step as u64).map(|m| m.1);
        let before = marks.iter().rfind(|m| m.0 < step as u64).map(|m| m.1);
        for device in [crashes.whole(), crashes.torn(&mut rng)] {
            for mark in [after, before] {
                openings += 1;
                let opened = open(device.clone(), mark, &mut rng);
                assert!(opened.is_ok(), "after step {step}: {:?}", opened.err());
            }
            if let Some((_, later)) = marks.iter().find(|m| m.0 > step as u64 + 3) {
                refusals += 1;
                let error = open(device, Some(*later), &mut rng).err();
                assert!(
                    matches!(error, Some(Error::RolledBack { .. } | Error::Forked)),
                    "step {step}: {error:?}"
                );
            }
        }
    }
    assert!(openings > 1000 && refusals > 500, "{openings} {refusals}");
}

#[test]
fn each_opening_is_a_generation_and_the_second_writer_of_copies_stops() {
    let mut rng = Rng(3);
    let history = History::default();
    let format = Disk::format(
        MemDevice::new(BLOCKS),
        KEY,
        &mut rng,
        Some(Box::new(history.clone())),
        Options::default(),
    );
    let copy = format.and_then(Disk::close).expect("close");
    let shared = |device, rng: &mut Rng| {
        Disk::open(device, KEY, rng, Some(Box::new(history.clone())), Options::default())
    };
    let one = shared(copy.clone(), &mut rng).expect("open");
    assert!(matches!(shared(copy, &mut rng).err(), Some(Error::RolledBack { .. })));
    let generation = one.mark().generation;
    let device = one.close().expect("close");
    assert_eq!(shared(device, &mut rng).expect("open").mark().generation, generation + 1);
}

#[test]
fn a_writer_whose_counter_fails_writes_no_more() {
    let mut rng = Rng(4);
    let history = History::default();
    let device = Recorder { count: history.steps.clone(), ..Recorder::new(BLOCKS) };
    let mut disk = Disk::format(device, KEY, &mut rng, Some(Box::new(history.clone())), Options::default())
        .expect("format");
    disk.write(1, &content(1)).expect("write");
    disk.commit().expect("commit");
    history.silent.store(true, Ordering::Relaxed);
    assert_eq!(disk.checkpoint().err(), Some(Error::Freshness(Distrust::Unreachable)));
    let steps = history.steps.load(Ordering::Relaxed);
    history.silent.store(false, Ordering::Relaxed);
    for error in [disk.write(2, &content(2)).err(), disk.commit().err(), disk.checkpoint().err()] {
        assert_eq!(error, Some(Error::Failed));
    }
    assert_eq!(history.steps.load(Ordering::Relaxed), steps);
    // What it wrote before is there, and newer than the mark: the next opening takes it.
    let disk = Disk::open(disk.abandon(), KEY, &mut rng, Some(Box::new(history)), Options::default());
    let mut buf = vec![0; BLOCK];
    disk.expect("open").read(1, &mut buf).expect("read");
    assert!(buf == content(1));
}

#[test]
fn marks_survive_their_bytes() {
    let mark = Mark { generation: 5, commits: 6, seal: [7; 28] };
    assert_eq!(Mark::from_bytes(&mark.to_bytes(&[9; 16])), ([9; 16], Some(mark)));
    assert_eq!(Mark::from_bytes(&[0; 60]).1, None);
}
