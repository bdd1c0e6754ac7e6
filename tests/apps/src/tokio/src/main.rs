//! What tokio rests on: its epoll loop, timers, blocking pool, child processes and signals, on several threads.
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

async fn echo(mut s: TcpStream) {
    let mut b = [0; 4096];
    while let Ok(n @ 1..) = s.read(&mut b).await {
        if s.write_all(&b[..n]).await.is_err() {
            break;
        }
    }
}

async fn client(port: u16, number: usize) -> usize {
    let mut s = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut total, mut b) = (0, vec![0; 1000 + number]);
    for round in 0..20 {
        s.write_all(&vec![round; 1000 + number]).await.unwrap();
        s.read_exact(&mut b).await.unwrap();
        total += b.iter().map(|x| usize::from(*x)).sum::<usize>();
    }
    total
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            tokio::spawn(echo(listener.accept().await.unwrap().0));
        }
    });
    let clients: Vec<_> = (0..50).map(|n| tokio::spawn(client(port, n))).collect();
    let mut sum = 0;
    for c in clients {
        sum += c.await.unwrap();
    }
    println!("echo {sum}");

    let (tx, mut rx) = mpsc::channel(10);
    for n in 0..100u64 {
        let tx = tx.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100 - n)).await;
            tx.send(n).await.unwrap();
        });
    }
    drop(tx);
    let mut got = Vec::new();
    while let Some(n) = rx.recv().await {
        got.push(n);
    }
    println!("timers {} {}", got.len(), got.iter().sum::<u64>());

    let slow = tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
    println!("timeout {}", slow.is_err());
    let output = tokio::process::Command::new("sh").args(["-c", "echo child; exit 3"]).output().await.unwrap();
    println!("child {:?} {:?}", output.status.code(), String::from_utf8(output.stdout).unwrap());
    println!("file {}", tokio::fs::read_to_string("/etc/hostname").await.is_ok());
    let mut alarm = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1()).unwrap();
    let me = std::process::id().to_string();
    tokio::process::Command::new("kill").args(["-USR1", &me]).status().await.unwrap();
    println!("signal {:?}", alarm.recv().await);
}
