//! The engine with a store that takes its time, or fails: nobody is told what is not durable.
use super::{Clock, Engine, Handle};
use crate::recorder::Recorder;
use crate::store::{Store, StoreError};
use controller_core::fabric::{Fabric, Settings};
use controller_core::io::Write;
use controller_core::record::Record;
use proto_model::access::{Actor, Role};
use proto_model::request::{Request, Response};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

fn failed(why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed { file: "slow".into(), what: "cannot be written", why: why.to_string() }
}

/// A disk that takes its time: each commit says that it began, waits for a word, and fails when there is none.
struct Slow {
    begun: std::sync::mpsc::Sender<()>,
    words: std::sync::mpsc::Receiver<()>,
    commits: Arc<Mutex<Vec<usize>>>,
}

impl Store for Slow {
    fn load(&self) -> Result<Vec<Record>, StoreError> {
        Ok(Vec::new())
    }
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.begun.send(()).map_err(|why| failed(&why))?;
        self.words.recv().map_err(|why| failed(&why))?;
        self.commits.lock().expect("commits").push(writes.len());
        Ok(())
    }
}

struct Bench {
    handle: Handle,
    begun: std::sync::mpsc::Receiver<()>,
    word: std::sync::mpsc::Sender<()>,
    commits: Arc<Mutex<Vec<usize>>>,
    engine: JoinHandle<Result<(), StoreError>>,
}

fn bench() -> Bench {
    let (word, words) = std::sync::mpsc::channel();
    let commits = Arc::new(Mutex::new(Vec::new()));
    let (begin, begun) = std::sync::mpsc::channel();
    let store = Slow { begun: begin, words, commits: Arc::clone(&commits) };
    let clock = Clock::system();
    let fabric = Fabric::restore(Settings::default(), [], clock.now()).expect("nothing contradicts");
    let (engine, handle) = Engine::new(fabric, Box::new(store), Recorder::default(), clock);
    Bench { handle, begun, word, commits, engine: std::thread::spawn(move || engine.run()) }
}

fn token(number: u8) -> Request {
    let node = format!("n{number}").parse().expect("name");
    let expires = proto_model::Timestamp(u64::MAX / 2);
    Request::CreateToken { node, hash: [number; 32], expires }
}

fn admin() -> Actor {
    Actor { name: "ann".parse().expect("name"), role: Role::Admin }
}

#[tokio::test]
async fn nobody_is_told_what_is_not_durable_yet() {
    let Bench { handle, begun, word, commits, engine } = bench();
    let mut first = Box::pin(handle.ask(admin(), token(1)));
    assert!(futures::poll!(&mut first).is_pending());
    begun.recv().expect("the first transaction");
    let mut second = Box::pin(handle.ask(admin(), token(2)));
    let mut read = Box::pin(handle.ask(admin(), Request::Status));
    assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut read).is_pending());
    // Time enough for a wrong engine to answer; a right one answers never.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(futures::poll!(&mut first).is_pending());
    assert!(futures::poll!(&mut read).is_pending(), "it would show what is not durable yet");
    word.send(()).expect("the store waits");
    assert_eq!(first.await, Ok(Response::Done));
    begun.recv().expect("the second transaction");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut read).is_pending());
    word.send(()).expect("the store waits");
    assert_eq!(second.await, Ok(Response::Done));
    assert!(matches!(read.await, Ok(Response::Status(status)) if status.nodes == 2));
    assert_eq!(*commits.lock().expect("commits"), [2, 2], "a node and a token each");
    handle.stop().await;
    engine.join().expect("engine").expect("all was kept");
}

#[tokio::test]
async fn a_stop_answers_what_was_asked_after_it_is_durable() {
    let Bench { handle, begun, word, commits, engine } = bench();
    let mut asked = Box::pin(handle.ask(admin(), token(1)));
    assert!(futures::poll!(&mut asked).is_pending());
    handle.stop().await;
    begun.recv().expect("the transaction");
    word.send(()).expect("the store waits");
    assert_eq!(asked.await, Ok(Response::Done));
    engine.join().expect("engine").expect("all was kept");
    assert_eq!(*commits.lock().expect("commits"), [2]);
}

#[tokio::test]
async fn what_cannot_be_kept_is_never_answered_and_stops_the_engine() {
    let Bench { handle, begun: _begun, word, commits, engine } = bench();
    drop(word);
    let refused = handle.ask(admin(), token(1)).await.expect_err("not kept");
    assert!(refused.what.contains("stopping"), "{refused}");
    assert!(engine.join().expect("engine").is_err());
    assert!(commits.lock().expect("commits").is_empty());
}
