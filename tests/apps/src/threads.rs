//! Threads, channels, locks, a panic that is caught, and a child process, with the standard library only.
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

fn main() {
    let total = Arc::new(Mutex::new(BTreeMap::new()));
    let workers: Vec<_> = (0..8u64)
        .map(|n| {
            let total = Arc::clone(&total);
            thread::spawn(move || {
                let sum = (0..100_000u64).fold(n, |a, b| a.wrapping_mul(31).wrapping_add(b));
                total.lock().unwrap().insert(n, sum);
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    println!("{:?}", total.lock().unwrap());

    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for i in 0..1000 {
            sender.send(i).unwrap();
        }
    });
    println!("{}", receiver.iter().sum::<i32>());

    std::panic::set_hook(Box::new(|_| {}));
    let caught = thread::spawn(|| panic!("on purpose")).join().is_err();
    println!("caught {caught}");
    thread::sleep(Duration::from_millis(5));

    let mut child = Command::new("/bin/sh")
        .args(["-c", "read line; echo child got $line; exit 3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a line\n").unwrap();
    let output = child.wait_with_output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    std::process::exit(output.status.code().unwrap() + 4);
}
