//! A thread of its own for the kernel: it enters other namespaces, which no thread that does anything else may do.
use super::underlays::Summary;
use super::{Linux, Options, Shared};
use crate::seal::keys::Keys;
use agent_core::kernel_state::{EntryKey, HostSide, Kernel, KernelState, Step};
use anyhow::{Context, Result, anyhow};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// What is asked of it.
#[derive(Debug)]
pub(crate) enum Request {
    Observe,
    Perform(Vec<Step>),
    /// Look at the underlay interfaces again.
    Refresh,
    /// From now on the host has these encryption keys.
    Keys(Keys),
    /// This sealer has ended; none: look whether one is lacking, or is not well.
    Sealer(Option<u32>),
}

/// What it answers, in the order of the requests.
#[derive(Debug)]
pub(crate) enum Reply {
    Observed(Result<KernelState, String>),
    Performed {
        results: Vec<(EntryKey, Result<(), String>)>,
        made_anew: Vec<HostSide>,
        took: Duration,
    },
    /// The summary when something changed.
    Refreshed(Result<Option<Summary>, String>),
    /// The keys are in use, or why not.
    Rekeyed(Result<(), String>),
    /// The sealer is there, or why not.
    Sealed(Result<(), String>),
}

/// Requests that wait; the engine has one batch under way at most, so this is never full.
const WAITING: usize = 16;

#[derive(Debug)]
pub(crate) struct KernelThread {
    requests: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
}

/// What is known once it runs.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) summary: Summary,
    pub(crate) shared: Shared,
}

impl KernelThread {
    /// Opens the kernel on a new thread, in the network namespace of the calling one.
    pub(crate) async fn start(options: Options) -> Result<(Self, Opened, mpsc::Receiver<Reply>)> {
        let (requests, asked) = mpsc::channel(WAITING);
        // Weak: whoever waits for the end of a sealer does not keep this thread waiting for requests.
        let sealer = requests.downgrade();
        let (answer, replies) = mpsc::channel(WAITING);
        let (opened, ready) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("kernel".into())
            .spawn(move || work(&options, opened, asked, &answer, sealer))
            .context("cannot start a thread")?;
        let opened = ready.await.map_err(|_| anyhow!("the kernel's thread ended"))??;
        Ok((Self { requests, thread }, opened, replies))
    }

    pub(crate) async fn ask(&self, request: Request) -> Result<()> {
        self.requests.send(request).await.map_err(|_| anyhow!("the kernel's thread ended"))
    }

    /// Waits until what was asked for is done. What forwards goes on forwarding.
    pub(crate) async fn stop(self) -> Result<()> {
        drop(self.requests);
        tokio::task::spawn_blocking(|| self.thread.join())
            .await?
            .map_err(|_| anyhow!("the kernel's thread panicked"))
    }
}

fn work(
    options: &Options,
    opened: oneshot::Sender<Result<Opened>>,
    mut asked: mpsc::Receiver<Request>,
    answer: &mpsc::Sender<Reply>,
    requests: mpsc::WeakSender<Request>,
) {
    let mut linux = match Linux::open(options) {
        Ok(linux) => linux,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    linux.when_sealer_ends(Arc::new(move |pid| {
        if let Some(requests) = requests.upgrade() {
            // Refused when the agent stops.
            let _ = requests.blocking_send(Request::Sealer(Some(pid)));
        }
    }));
    let news = Opened { summary: linux.datapath().summary().clone(), shared: linux.shared() };
    if opened.send(Ok(news)).is_err() {
        return;
    }
    while let Some(request) = asked.blocking_recv() {
        if answer.blocking_send(reply(&mut linux, request)).is_err() {
            return;
        }
    }
}

fn reply(linux: &mut Linux, request: Request) -> Reply {
    match request {
        Request::Observe => Reply::Observed(linux.observe()),
        Request::Perform(steps) => {
            let started = Instant::now();
            let results = steps.iter().map(|step| (step.key(), linux.perform(step))).collect();
            Reply::Performed { results, made_anew: linux.made_anew(), took: started.elapsed() }
        }
        Request::Keys(keys) => Reply::Rekeyed(linux.set_keys(keys).map_err(|error| format!("{error:#}"))),
        Request::Sealer(ended) => {
            let outcome = match ended {
                Some(pid) => linux.sealer_ended(pid).map(drop),
                None => linux.tend_sealer(),
            };
            Reply::Sealed(outcome.map_err(|error| format!("{error:#}")))
        }
        Request::Refresh => Reply::Refreshed(match linux.refresh_underlays() {
            Ok(changed) => Ok(changed.then(|| linux.datapath().summary().clone())),
            Err(error) => Err(format!("{error:#}")),
        }),
    }
}
