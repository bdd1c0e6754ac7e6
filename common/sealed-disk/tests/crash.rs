//! The disk against a model: crashes at every kind of place, tampering with every kind of block, host errors.
//!
//! `OCCLUM_TEST_SEED` repeats a run; `OCCLUM_CRASH_POINTS` and `OCCLUM_MUTATIONS` make a campaign of the slices
//! (`make sealed-campaign`).
mod common;

use common::{Slice, seed};
use occlum_sealed_disk::testing::{Crashes, OneMark, Recorder, Rng};
use occlum_sealed_disk::{BLOCK, Disk, Error, Key, MemDevice, Options};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

const KEY: Key<'static> = Key::Root(&[7; 32]);
/// Blocks of a device; the smallest that take the workload are nearly full at times, so places are soon used again.
const BLOCKS: usize = 768;
const BLOCKS_MIN: usize = 460;

/// Content of logical blocks by the seed of their bytes; 0 is a hole.
type Model = BTreeMap<u32, u64>;

fn content(seed: u64) -> Vec<u8> {
    if seed == 0 {
        return vec![0; BLOCK];
    }
    let mut rng = Rng(seed);
    (0..BLOCK / 8).flat_map(|_| rng.number().to_le_bytes()).collect()
}
/// Small limits, so that checkpoints, evictions and refills happen all the time.
fn options(rng: &mut Rng) -> Options {
    Options { cache_nodes: 8, max_pending: 20 + rng.below(200) as usize, ..Options::default() }
}

/// A commit: what it made, and between which steps of the device it happened. One that a host error ended may be there
/// after a crash or not: it is never done.
struct Commit {
    started: usize,
    done: usize,
    model: Model,
}

fn any_block(rng: &mut Rng) -> u32 {
    match rng.below(4) {
        0 => rng.below(8) as u32,
        1 => 100_000 + rng.below(20) as u32 * 128,
        2 => 0x00ff_0000 + rng.below(30) as u32,
        _ => rng.below(120) as u32,
    }
}

fn mutate(disk: &mut Disk<Recorder>, model: &mut Model, rng: &mut Rng) {
    let first = any_block(rng);
    let count = 1 + rng.below(6) as u32;
    if rng.one_in(6) {
        disk.discard(first, count).expect("discard");
        model.extend((first..first + count).map(|b| (b, 0)));
        return;
    }
    for block in first..first + count {
        let seed = rng.number() | 1;
        match disk.write(block, &content(seed)) {
            Ok(()) => drop(model.insert(block, seed)),
            // After checkpoints that failed more is waiting to be freed.
            Err(Error::Full) => return,
            Err(other) => panic!("write: {other}"),
        }
    }
}

/// Runs a random workload; the device with all its steps, and the commits.
fn workload(rng: &mut Rng, commits: usize) -> (Recorder, Vec<Commit>) {
    let device = Recorder::new(BLOCKS_MIN + rng.below((BLOCKS - BLOCKS_MIN) as u64) as usize);
    let device = if rng.one_in(2) { device.late() } else { device };
    let (count, trip) = (device.count.clone(), device.trip.clone());
    let now = || count.load(Ordering::Relaxed) as usize;
    let options = options(rng);
    let mut disk = Disk::format(device, KEY, rng, None, options).expect("format");
    let mut model = Model::new();
    let mut done = vec![Commit { started: 0, done: now(), model: model.clone() }];
    for left in (0..commits).rev() {
        for _ in 0..rng.below(12) {
            mutate(&mut disk, &mut model, rng);
        }
        let started = now();
        // A write that fails on the way, mostly late: the last one of a checkpoint is that of its root.
        let fails = left > 0 && rng.one_in(4);
        trip.store(if fails { 1 + rng.below(9) } else { 0 }, Ordering::Relaxed);
        let mut result = if rng.one_in(5) { disk.checkpoint() } else { Ok(()) };
        if result.is_ok() || rng.one_in(2) {
            result = disk.commit();
        }
        trip.store(0, Ordering::Relaxed);
        assert!(result.is_ok() || fails, "{result:?}");
        let done_at = if result.is_ok() { now() } else { usize::MAX };
        done.push(Commit { started, done: done_at, model: model.clone() });
    }
    (disk.abandon(), done)
}

/// Is the disk exactly this?
fn equals<D: occlum_sealed_disk::BlockDevice>(disk: &mut Disk<D>, model: &Model, all: &Model) -> bool {
    let mut buf = vec![0; BLOCK];
    all.keys().all(|block| {
        disk.read(*block, &mut buf).expect("read after recovery");
        buf == content(model.get(block).copied().unwrap_or(0))
    })
}

/// Recovers a device that a crash left after `at` steps, and compares with the commits that it may hold.
fn check_crash(device: MemDevice, at: usize, commits: &[Commit], rng: &mut Rng) {
    let first = commits.iter().rposition(|c| c.done <= at);
    let small = options(rng);
    let opened = Disk::open(device, KEY, rng, None, small);
    let Some(first) = first else { return };
    let mut disk = opened.expect("a store opens after a crash");
    let last = commits.iter().rposition(|c| c.started <= at).expect("a commit");
    let all = &commits[commits.len() - 1].model;
    let mut found = (first..=last).find(|i| equals(&mut disk, &commits[*i].model, all));
    assert!(found.is_some(), "after {at} steps: neither of commits {first}..={last}");
    // It goes on as if nothing had been.
    if rng.one_in(4) {
        let mut model = commits[found.take().expect("found")].model.clone();
        for round in 0..3 {
            for _ in 0..1 + rng.below(20) {
                let (block, seed) = (any_block(rng), rng.number() | 1);
                match disk.write(block, &content(seed)) {
                    Ok(()) => drop(model.insert(block, seed)),
                    Err(error) => assert!(error == Error::Full && disk.available() == 0, "{error}"),
                }
            }
            disk.commit().expect("commit");
            if round == 1 {
                disk.checkpoint().expect("checkpoint");
            }
        }
        let device = disk.abandon();
        let small = options(rng);
        let mut disk = Disk::open(device, KEY, rng, None, small).expect("open again");
        let both: Model = all.iter().chain(&model).map(|(b, s)| (*b, *s)).collect();
        assert!(equals(&mut disk, &model, &both), "after {at} steps and going on");
        let mut damaged = Vec::new();
        disk.scrub(&mut |part| damaged.push(part)).expect("scrub");
        assert!(damaged.is_empty(), "{damaged:?}");
    }
}

#[test]
fn crashes_lose_nothing_committed() {
    let slice = Slice::of("OCCLUM_CRASH_POINTS");
    let mut rng = Rng(seed());
    let mut done = 0;
    while slice.more(done) {
        let (device, commits) = workload(&mut rng, 60);
        let mut crashes = Crashes::new(&device.steps, device.now.bytes.len() / BLOCK);
        while crashes.at() < device.steps.len() && slice.more(done) {
            crashes.advance(crashes.at() + 1);
            check_crash(crashes.whole(), crashes.at(), &commits, &mut rng);
            check_crash(crashes.torn(&mut rng), crashes.at(), &commits, &mut rng);
            done += 2;
        }
    }
    println!("crash points: {done}");
}

/// Replaces the same blocks until there is no room for one more, lets write `trip` of the checkpoint fail, and goes on
/// writing at once. The next free blocks are the last few; behind them follow those that the checkpoint would have made
/// free, if it had become durable.
fn workload_without_room(rng: &mut Rng, trip: u64) -> (Recorder, Vec<Commit>) {
    let device = Recorder::new(128 + rng.below(64) as usize);
    let device = if rng.one_in(2) { device.late() } else { device };
    let (count, fails) = (device.count.clone(), device.trip.clone());
    let now = || count.load(Ordering::Relaxed) as usize;
    let mut disk = Disk::format(device, KEY, rng, None, Options::default()).expect("format");
    let mut model = Model::new();
    let mut done = vec![Commit { started: 0, done: now(), model: model.clone() }];
    for _ in 0..3 {
        while disk.available() > 1 {
            for block in 0..disk.available().min(30) as u32 {
                let seed = rng.number() | 1;
                disk.write(block, &content(seed)).expect("write");
                model.insert(block, seed);
            }
            let started = now();
            disk.commit().expect("commit");
            done.push(Commit { started, done: now(), model: model.clone() });
        }
        fails.store(trip, Ordering::Relaxed);
        let failed = disk.checkpoint();
        fails.store(0, Ordering::Relaxed);
        assert!(matches!(failed, Ok(()) | Err(Error::Device(_))), "{failed:?}");
        for block in 1000..1060 {
            match disk.write(block, &content(7)) {
                Ok(()) => drop(model.insert(block, 7)),
                Err(error) => assert_eq!(error, Error::Full),
            }
        }
        let started = now();
        disk.commit().expect("commit");
        done.push(Commit { started, done: now(), model: model.clone() });
        disk.discard(1000, 60).expect("discard");
        model.extend((1000..1060).map(|b| (b, 0)));
    }
    (disk.abandon(), done)
}

#[test]
fn a_checkpoint_that_fails_gives_nothing_free() {
    let slice = Slice::of("OCCLUM_CRASH_POINTS");
    let mut rng = Rng(seed());
    let mut done = 0;
    while slice.more(done) {
        let (device, commits) = workload_without_room(&mut rng, 1 + done % 8);
        let mut crashes = Crashes::new(&device.steps, device.now.bytes.len() / BLOCK);
        while crashes.at() < device.steps.len() {
            crashes.advance(crashes.at() + 1 + rng.below(6) as usize);
            check_crash(crashes.torn(&mut rng), crashes.at(), &commits, &mut rng);
            done += 1;
        }
    }
    println!("crash points: {done}");
}

/// One change that a hostile host could make; `older` are earlier states of the same store, `other` another one.
fn tamper(device: &mut MemDevice, older: &[MemDevice], other: &MemDevice, rng: &mut Rng) -> &'static str {
    let blocks = device.bytes.len() / BLOCK;
    let at = rng.below(blocks as u64) as usize * BLOCK;
    let old = &older[rng.below(older.len() as u64) as usize];
    let to = rng.below(blocks as u64) as usize * BLOCK;
    match rng.below(8) {
        0 | 1 => {
            let bit = rng.below(8 * device.bytes.len() as u64) as usize;
            device.bytes[bit / 8] ^= 1 << (bit % 8);
            "bit flip"
        }
        2 => {
            let block = device.bytes[at..at + BLOCK].to_vec();
            device.bytes.copy_within(to..to + BLOCK, at);
            device.bytes[to..to + BLOCK].copy_from_slice(&block);
            "swap"
        }
        3 => {
            device.bytes[at..at + BLOCK].copy_from_slice(&old.bytes[at..at + BLOCK]);
            "block of an older state"
        }
        4 => {
            device.bytes.truncate(at + rng.below(BLOCK as u64) as usize);
            "truncation"
        }
        5 => {
            let n = BLOCK * (1 + rng.below(12) as usize);
            device.bytes[..n].copy_from_slice(&old.bytes[..n]);
            "old root"
        }
        6 => {
            let to = to % other.bytes.len();
            device.bytes[at..at + BLOCK].copy_from_slice(&other.bytes[to..to + BLOCK]);
            "block of another store"
        }
        _ => {
            for (i, block) in device.bytes.chunks_mut(BLOCK).enumerate().filter(|_| rng.one_in(3)) {
                block.copy_from_slice(&old.bytes[i * BLOCK..(i + 1) * BLOCK]);
            }
            "mixed generations"
        }
    }
}

/// A store closed cleanly, its mark, and older states of it.
fn history(rng: &mut Rng) -> (Vec<MemDevice>, Model, OneMark) {
    let (device, commits) = workload(rng, 40);
    let mut crashes = Crashes::new(&device.steps, device.now.bytes.len() / BLOCK);
    let mut states = Vec::new();
    for commit in commits.iter().filter(|c| c.done != usize::MAX).step_by(5) {
        crashes.advance(commit.done);
        states.push(crashes.whole());
    }
    let mut disk = Disk::open(device.now, KEY, rng, None, Options::default()).expect("open");
    disk.checkpoint().expect("checkpoint");
    let mark = OneMark { mark: Some(disk.mark()) };
    states.push(disk.close().expect("close"));
    let model = commits.last().expect("a commit").model.clone();
    (states, model, mark)
}

/// Opens and reads everything: true if nothing was noticed. What is read must be right.
fn survives(device: MemDevice, model: &Model, mark: &OneMark, rng: &mut Rng, how: &str) -> bool {
    let freshness = Box::new(mark.clone());
    let mut disk = match Disk::open(device, KEY, rng, Some(freshness), Options::default()) {
        Ok(disk) => disk,
        Err(error) => {
            assert!(!matches!(error, Error::Full | Error::Range | Error::Failed), "{how}: {error}");
            return false;
        }
    };
    let mut buf = vec![0; BLOCK];
    let mut quiet = true;
    for (block, seed) in model {
        match disk.read(*block, &mut buf) {
            Ok(()) => assert!(buf == content(*seed), "{how}: wrong data in block {block}"),
            Err(Error::Damaged(_) | Error::Truncated { .. }) => quiet = false,
            Err(other) => panic!("{how}: {other}"),
        }
    }
    quiet
}

#[test]
fn tampering_is_detected() {
    let slice = Slice::of("OCCLUM_MUTATIONS");
    let mut done = 0;
    let mut rng = Rng(seed());
    let mut noticed: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    while slice.more(done) {
        let (states, model, mark) = history(&mut rng);
        let other = history(&mut rng).0.pop().expect("a state");
        let (latest, older) = states.split_last().expect("states");
        assert!(survives(latest.clone(), &model, &mark, &mut rng, "untouched"));
        for _ in 0..500 {
            if !slice.more(done) {
                break;
            }
            done += 1;
            let mut device = latest.clone();
            let how = tamper(&mut device, older, &other, &mut rng);
            let quiet = survives(device, &model, &mark, &mut rng, how);
            let count = noticed.entry(how).or_default();
            *(if quiet { &mut count.1 } else { &mut count.0 }) += 1;
        }
    }
    for (how, (seen, quiet)) in &noticed {
        println!("{how}: {seen} detected, {quiet} touched nothing in use");
    }
    println!("mutations: {done}");
    assert!(noticed.values().map(|(seen, _)| seen).sum::<u64>() * 4 > done, "most are noticed: {noticed:?}");
}

#[test]
fn every_block_in_use_matters() {
    let mut rng = Rng(seed());
    let (states, _, _) = history(&mut rng);
    let latest = states.last().expect("a state");
    let mut disk = Disk::open(latest.clone(), KEY, &mut rng, None, Options::default()).expect("open");
    let used = disk.scrub(&mut |part| panic!("{part}")).expect("scrub");
    let mut damaged = 0;
    for block in 2..latest.bytes.len() / BLOCK {
        let mut device = latest.clone();
        device.bytes[block * BLOCK + rng.below(BLOCK as u64) as usize] ^= 1;
        let options = Options { read_only: true, ..Options::default() };
        let mut disk = Disk::open(device, KEY, &mut rng, None, options).expect("the root is untouched");
        let mut found = 0;
        disk.scrub(&mut |_| found += 1).expect("scrub");
        damaged += found.min(1);
    }
    assert_eq!(damaged, used);
}

#[test]
fn a_full_host_loses_nothing() {
    let mut rng = Rng(seed());
    for round in 0..20 {
        let device = Recorder::new(BLOCKS);
        let device = if round % 2 == 0 { device } else { device.late() };
        let failing = device.failing.clone();
        let small = options(&mut rng);
        let mut disk = Disk::format(device, KEY, &mut rng, None, small).expect("format");
        let mut model = Model::new();
        for round in 0..60 {
            failing.store(u64::from(rng.one_in(3)), Ordering::Relaxed);
            let (block, seed) = (any_block(&mut rng), rng.number() | 1);
            let written = disk.write(block, &content(seed));
            if round % 3 == 0 {
                let _ = disk.commit();
            }
            failing.store(0, Ordering::Relaxed);
            match written {
                Ok(()) => model.extend([(block, seed)]),
                Err(error) => assert_eq!(error, Error::Device(occlum_sealed_disk::DeviceError::NoSpace)),
            }
        }
        disk.commit().expect("commit when there is room again");
        let mut disk = Disk::open(disk.abandon(), KEY, &mut rng, None, Options::default()).expect("open");
        assert!(equals(&mut disk, &model, &model));
    }
}

#[test]
fn a_full_disk_is_an_error_and_can_be_emptied() {
    let mut rng = Rng(seed());
    let device = Recorder::new(256);
    let mut disk = Disk::format(device, KEY, &mut rng, None, Options::default()).expect("format");
    let mut written = 0;
    while disk.write(written, &content(u64::from(written) + 1)).is_ok() {
        disk.commit().expect("commit");
        written += 1;
    }
    assert!(written > 150, "{written}");
    assert_eq!(disk.write(9999, &content(1)), Err(Error::Full));
    for round in 0..500 {
        disk.discard(round % written, 1).expect("discard");
        disk.commit().expect("commit");
        disk.write(round % written, &content(u64::from(round) + 7)).expect("there is room again");
        disk.commit().expect("commit");
    }
}

#[test]
fn wrong_and_foreign_stores_are_refused_by_name() {
    let mut rng = Rng(seed());
    let made = |rng: &mut Rng, key| {
        Disk::format(MemDevice::new(256), key, rng, None, Options::default()).expect("format").abandon()
    };
    let open = |device, key, rng: &mut Rng| Disk::open(device, key, rng, None, Options::default()).err();
    let device = made(&mut rng, KEY);
    assert_eq!(open(device.clone(), Key::Root(&[8; 32]), &mut rng), Some(Error::WrongKey));
    assert_eq!(open(device.clone(), Key::None, &mut rng), Some(Error::WrongForm));
    assert_eq!(open(made(&mut rng, Key::None), KEY, &mut rng), Some(Error::WrongForm));
    assert_eq!(open(MemDevice::new(0), KEY, &mut rng), Some(Error::NotAStore));
    assert_eq!(open(MemDevice::new(100), KEY, &mut rng), Some(Error::NotAStore));
    let mut newer = device.clone();
    (newer.bytes[8], newer.bytes[BLOCK + 8]) = (2, 2);
    assert_eq!(open(newer, KEY, &mut rng), Some(Error::Version(2)));
    let mut short = device;
    short.bytes.truncate(100 * BLOCK);
    assert_eq!(open(short, KEY, &mut rng), Some(Error::Truncated { expected: 256, found: 100 }));
}

#[test]
fn rollback_and_forks_are_told_apart() {
    let mut rng = Rng(seed());
    let mut disk =
        Disk::format(MemDevice::new(256), KEY, &mut rng, None, Options::default()).expect("format");
    disk.write(1, &content(1)).expect("write");
    disk.commit().expect("commit");
    let old = disk.abandon();
    let reopen = |device, mark: Option<_>, rng: &mut Rng| {
        let freshness = Box::new(OneMark { mark });
        Disk::open(device, KEY, rng, Some(freshness), Options::default())
    };
    let newer = |device, rng: &mut Rng| {
        let mut disk = reopen(device, None, rng).expect("open");
        disk.write(2, &content(rng.number())).expect("write");
        disk.commit().expect("commit");
        disk.checkpoint().expect("checkpoint");
        (disk.mark(), disk.abandon())
    };
    let (mark, one) = newer(old.clone(), &mut rng);
    let (_, two) = newer(old.clone(), &mut rng);
    assert!(matches!(reopen(old, Some(mark), &mut rng).err(), Some(Error::RolledBack { .. })));
    assert_eq!(reopen(two, Some(mark), &mut rng).err(), Some(Error::Forked));
    assert!(reopen(one, Some(mark), &mut rng).is_ok());
}

#[test]
fn rotation_and_growth_keep_everything() {
    let mut rng = Rng(seed());
    let mut disk =
        Disk::format(MemDevice::new(256), KEY, &mut rng, None, Options::default()).expect("format");
    disk.write(5, &content(5)).expect("write");
    disk.rotate(&[9; 32], &mut rng).expect("rotate");
    let mut device = disk.close().expect("close");
    assert_eq!(
        Disk::open(device.clone(), KEY, &mut rng, None, Options::default()).err(),
        Some(Error::WrongKey)
    );
    device.bytes.resize(40_000 * BLOCK, 0);
    let key = Key::Root(&[9; 32]);
    let mut disk = Disk::open(device, key, &mut rng, None, Options::default()).expect("open");
    disk.grow(40_000).expect("grow");
    for block in 0..30_000 {
        disk.write(block, &content(u64::from(block) + 9)).expect("write");
    }
    disk.commit().expect("commit");
    let mut disk = Disk::open(disk.abandon(), key, &mut rng, None, Options::default()).expect("open");
    let mut buf = vec![0; BLOCK];
    for block in (0..30_000).step_by(997) {
        disk.read(block, &mut buf).expect("read");
        assert!(buf == content(u64::from(block) + 9));
    }
}

#[test]
fn integrity_only_stores_are_deterministic() {
    let make = |seed| {
        let device = MemDevice::new(256);
        let mut disk =
            Disk::format(device, Key::None, &mut Rng(seed), None, Options::default()).expect("format");
        disk.write(3, &content(3)).expect("write");
        disk.commit().expect("commit");
        (disk.mark().seal, disk.close().expect("close"))
    };
    let (root, device) = make(1);
    assert!(make(2) == (root, device.clone()));
    let options = Options { read_only: true, expected_root: Some(root), ..Options::default() };
    let open = |device| Disk::open(device, Key::None, &mut Rng(3), None, options);
    let mut buf = vec![0; BLOCK];
    open(device.clone()).expect("open").read(3, &mut buf).expect("read");
    assert!(buf == content(3));
    for block in 0..256 {
        let mut bad = device.clone();
        bad.bytes[block * BLOCK + 200] ^= 4;
        let read = open(bad).and_then(|mut disk| disk.read(3, &mut buf));
        assert!(read.is_err() || buf == content(3), "block {block}");
    }
}

#[test]
fn a_pinned_root_admits_no_later_commit() {
    let mut rng = Rng(seed());
    let mut disk =
        Disk::format(MemDevice::new(256), KEY, &mut rng, None, Options::default()).expect("format");
    disk.write(3, &content(3)).expect("write");
    disk.commit().expect("commit");
    disk.checkpoint().expect("checkpoint");
    let root = disk.mark().seal;
    disk.write(3, &content(4)).expect("write");
    disk.commit().expect("commit");
    let device = disk.abandon();
    let mut buf = vec![0; BLOCK];
    for (expected_root, seed) in [(Some(root), 3), (None, 4)] {
        let options = Options { read_only: true, expected_root, ..Options::default() };
        let mut disk = Disk::open(device.clone(), KEY, &mut rng, None, options).expect("open");
        disk.read(3, &mut buf).expect("read");
        assert!(buf == content(seed));
    }
    let options = Options { read_only: true, expected_root: Some([1; 28]), ..Options::default() };
    assert_eq!(Disk::open(device, KEY, &mut rng, None, options).err(), Some(Error::WrongRoot));
}
