//! An agent that is killed between any two system calls leaves only what the next one can see and remove.
use crate::world::{clear, options, put_all, within};
use agent_core::kernel_state::Kernel;
use agent_daemon::kernel::Linux;
use proto_model::resource::Attachment;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests_sim::contract::everything;

const PINS: &str = "FWTEST_PINS";
const PLACE: &str = "FWTEST_PLACE";
const VICTIM: &str = "kills::performs_steps_until_it_is_killed";
const ROUNDS: u64 = 12;

#[test]
#[ignore = "run by the tests of this file, as a process to kill"]
fn performs_steps_until_it_is_killed() {
    let pins = PathBuf::from(std::env::var_os(PINS).expect("where the pins are"));
    let place = Attachment::Path(std::env::var(PLACE).expect("the namespace"));
    let mut linux = Linux::open(&options(&pins)).expect("opened");
    println!("ready");
    loop {
        put_all(&mut linux, &everything(&place));
        clear(&mut linux);
    }
}

/// A process that is killed, whatever happens to the test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(pins: &std::path::Path, place: &str) -> Victim {
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", VICTIM, "--ignored", "--nocapture"])
        .env(PINS, pins)
        .env(PLACE, place)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the victim starts");
    Victim(child)
}

#[test]
fn whatever_a_killed_agent_leaves_can_be_seen_and_removed() {
    within(|world| {
        let at = world.make("web");
        let Attachment::Path(place) = at.clone() else { panic!("a namespace by path") };
        let (mut found, mut round) = (0, 0);
        // On a busy machine a victim loads for long.
        while round < ROUNDS || (found == 0 && round < 10 * ROUNDS) {
            let victim = start(world.pins(), &place);
            // From while it loads to far into its steps.
            std::thread::sleep(Duration::from_millis(20 + 97 * round));
            drop(victim);
            let mut linux = world.linux();
            found += linux.observe().expect("observed").len();
            put_all(&mut linux, &everything(&at));
            assert_eq!(linux.observe().expect("observed").len(), everything(&at).len());
            clear(&mut linux);
            assert_eq!(world.leftovers(), Vec::<String>::new(), "round {round}");
            round += 1;
        }
        assert!(found > 0, "no victim was killed in the middle of its work");
    });
}
