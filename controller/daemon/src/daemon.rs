//! A whole controller: opens its state, starts the engine, serves the port.
use crate::agents::Agents;
use crate::api::{Api, clients::client_file};
use crate::authority::Authority;
use crate::config::{Config, split_host};
use crate::engine::{Clock, Engine, Handle};
use crate::enrolment::Enrolment;
use crate::history::History;
use crate::recorder::Recorder;
use crate::store::{Embedded, Store};
use crate::{files, server};
use anyhow::{Context, Result, anyhow};
use controller_core::fabric::Fabric;
use proto_model::access::Role;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Streams that do not end by themselves are cut so long after a stop was asked for.
const PARTING: Duration = Duration::from_secs(3);
/// The first administrator's certificate lasts longer than those that it makes.
const ADMIN_YEARS: u8 = 10;

/// A running controller.
#[derive(Debug)]
pub struct Daemon {
    addresses: Vec<SocketAddr>,
    admin: PathBuf,
    engine: Handle,
    stop: watch::Sender<bool>,
    /// How the engine ended.
    ended: oneshot::Receiver<Result<()>>,
    serving: JoinHandle<Result<()>>,
}

impl Daemon {
    /// Starts in the current tokio runtime; returns when it listens.
    pub async fn start(config: Config) -> Result<Self> {
        // A second start in one process finds the provider installed, which is all that is wanted.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        files::private_directory(&config.state)?;
        let authority = Arc::new(Authority::open(&config.state, &config.region)?);
        let (engine, handle) = open_engine(&config)?;
        let bound = server::bind(&config.listen).await?;
        let addresses = bound.iter().map(|incoming| incoming.local_addr()).collect::<Result<Vec<_>, _>>()?;
        let advertise = advertised(&config, &addresses);
        let admin = write_admin(&config.state, &authority, &advertise)?;
        let router = server::router(
            &authority.server(&hosts(&advertise))?,
            authority.region(),
            authority.pem(),
            Api::new(handle.clone(), Arc::clone(&authority), advertise),
            Agents::new(handle.clone(), Arc::clone(&authority)),
            Enrolment::new(handle.clone(), Arc::clone(&authority)),
        )
        .await?;
        let (stop, mut stopping) = watch::channel(false);
        let ended = run_engine(engine, stop.clone())?;
        let serving = tokio::spawn(server::serve(router, bound, async move {
            // The sender lives as long as the engine; its loss is a stop too.
            let _ = stopping.wait_for(|stop| *stop).await;
        }));
        tracing::info!(region = %config.region, ?addresses, admin = %admin.display(), "listening");
        Ok(Self { addresses, admin, engine: handle, stop, ended, serving })
    }

    /// Where it listens, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The client file with the role admin.
    pub fn admin(&self) -> &Path {
        &self.admin
    }

    /// Until it fails, or `stopped` comes; then answers what was asked, ends all streams, and closes the store.
    pub async fn run_until(mut self, stopped: impl Future<Output = ()>) -> Result<()> {
        let ended = tokio::select! {
            ended = &mut self.ended => Some(ended),
            () = stopped => None,
        };
        match ended {
            Some(ended) => {
                self.stop.send_replace(true);
                self.part().await;
                ended.unwrap_or_else(|_| {
                    Err(anyhow!("the engine stopped without a word: a bug, see the log above"))
                })
            }
            None => self.stop().await,
        }
    }

    pub async fn stop(mut self) -> Result<()> {
        self.engine.stop().await;
        self.stop.send_replace(true);
        self.part().await;
        self.ended.await.unwrap_or_else(|_| Err(anyhow!("the engine stopped without a word")))
    }

    async fn part(&mut self) {
        if tokio::time::timeout(PARTING, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

fn open_engine(config: &Config) -> Result<(Engine, Handle)> {
    let settings = config.settings()?;
    let store = Embedded::open(&config.state, &config.region)?;
    let records = store.load()?;
    let clock = Clock::system();
    let now = clock.now();
    tracing::info!(records = records.len(), "state read");
    let recorder = Recorder::open(config.record.as_deref(), &settings, &records, now)?;
    let fabric = Fabric::restore(settings, records, now)
        .map_err(|why| anyhow!("{}: its records contradict each other: {why}", config.state.display()))?;
    let (mut engine, handle) = Engine::new(fabric, Box::new(store), recorder, clock);
    engine.keep_history(History::of(&config.state, now));
    Ok((engine, handle))
}

/// On a thread of its own, because commits block; tells how it ended, and that serving is over then.
fn run_engine(engine: Engine, stop: watch::Sender<bool>) -> Result<oneshot::Receiver<Result<()>>> {
    let (tell, ended) = oneshot::channel();
    let work = move || {
        let outcome = engine.run();
        if let Err(why) = &outcome {
            tracing::error!(%why, "the controller stops: it must not promise what it cannot keep");
        }
        stop.send_replace(true);
        // Nobody listens when the daemon was dropped.
        let _ = tell.send(outcome.map_err(anyhow::Error::from));
    };
    std::thread::Builder::new()
        .name("engine".into())
        .spawn(work)
        .context("cannot start the engine's thread")?;
    Ok(ended)
}

/// What agents and clients are told; without a configuration, the addresses that it listens on.
fn advertised(config: &Config, addresses: &[SocketAddr]) -> Vec<String> {
    if !config.advertise.is_empty() {
        return config.advertise.clone();
    }
    let reachable = |address: &SocketAddr| match address.ip().is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    };
    addresses.iter().map(reachable).collect()
}

fn hosts(advertise: &[String]) -> Vec<String> {
    advertise.iter().filter_map(|entry| split_host(entry)).map(|(host, _)| host.to_owned()).collect()
}

/// Made once; an administrator's changes to it stay.
fn write_admin(state: &Path, authority: &Authority, advertise: &[String]) -> Result<PathBuf> {
    let path = state.join("admin.toml");
    if !path.exists() {
        let name = "admin".parse().context("a constant that is a name")?;
        let file = client_file(authority, advertise, &name, Role::Admin, ADMIN_YEARS)?;
        files::replace(&path, file.as_bytes())?;
    }
    Ok(path)
}
