//! The demo: real packets cross three hosts through a circuit, told as it happens, with a table of what was measured.
mod acts;
mod foresight;
#[cfg(test)]
mod recording;
mod story;

use crate::lab::{Lab, Options, Owned, Plan, Snapshot, file};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use std::time::Instant;
use story::Story;

const TOPOLOGY: &str = include_str!("../../../topologies/demo.toml");

/// A part of the demo with a lab of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scene {
    /// Register, discover, plan, create, filter, crash, tear down.
    Fabric,
    /// A link becomes slow, and a circuit leaves it before its bound breaks.
    Foresight,
}

/// Runs the demo, or one scene of it; `false` when a claim failed.
pub fn run(only: Option<Scene>) -> Result<bool> {
    let mut story = Story::default();
    for scene in [Scene::Fabric, Scene::Foresight] {
        if only.is_none_or(|only| only == scene) {
            play(&mut story, scene)?;
        }
    }
    Ok(story.end())
}

fn play(story: &mut Story, scene: Scene) -> Result<()> {
    let plan = match scene {
        Scene::Fabric => file::parse(TOPOLOGY, None)?,
        Scene::Foresight => foresight::plan()?,
    };
    let look = || Ok(Snapshot::of_machine()?.concerning(&plan.name));
    let before = look()?;
    let lab = match scene {
        Scene::Fabric => fabric(story, plan.clone())?,
        Scene::Foresight => foresight::play(story, plan.clone())?,
    };
    down(story, lab, &before, look)
}

fn fabric(story: &mut Story, plan: Plan) -> Result<Lab> {
    story.chapter("Five hosts, three workloads, one controller");
    let begun = Instant::now();
    let lab = Lab::up(plan, Options::default(), &ProgressBar::hidden())?;
    acts::opening(story, &lab, begun.elapsed());
    if let Err(failure) = acts::play(story, &lab) {
        story.claim("the demo runs to its end", false, format!("{failure:#}"));
    }
    Ok(lab)
}

fn down(story: &mut Story, lab: Lab, before: &Snapshot, look: impl Fn() -> Result<Snapshot>) -> Result<()> {
    story.chapter("Down to the last trace");
    let owned = Owned::by(&lab.plan().name)?;
    story.say(&format!("The lab's agents have {} BPF maps, programs and links in the kernel.", owned.len()));
    let ending = Instant::now();
    let down = lab.down();
    let took = ending.elapsed();
    story.measure("the lab is gone in under 3 s", down.map(|()| (took.as_secs_f64() < 3.0, seconds(took))));
    let left = settled(before, &owned, look)?;
    let shown = if left.is_empty() { "no difference".to_owned() } else { left.join("; ") };
    story.claim("links, routes, rules, BPF objects, pins and files are as before", left.is_empty(), shown);
    Ok(())
}

fn seconds(time: std::time::Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// The kernel frees BPF objects and namespaces a little after the last reference: looks again for up to 2 s.
fn settled(before: &Snapshot, owned: &Owned, look: impl Fn() -> Result<Snapshot>) -> Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let mut left = before.differences(&look().context("looking again")?);
        left.extend(owned.left()?);
        if left.is_empty() || begun.elapsed().as_secs() >= 2 {
            return Ok(left);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
