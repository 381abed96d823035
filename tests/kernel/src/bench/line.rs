//! Where most things are measured: three hosts in a row, a workload at each end.
use crate::lab::{Lab, Options, file};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

/// `web` on a, `db` on b, t between them; db offers `service`, if any. The lab's name has the process's number.
///
/// # Errors
/// The lab does not come up.
pub fn up(name: &str, service: Option<&str>, options: Options) -> Result<Lab> {
    let plan = file::parse(&topology(name, service), Some(&format!("{name}-{}", std::process::id())))?;
    Lab::up(plan, options, &ProgressBar::hidden())
}

fn topology(name: &str, service: Option<&str>) -> String {
    let service = service.map_or_else(String::new, |service| format!("\"measured {service}\""));
    format!(
        r#"
name = "{name}"
[[node]]
name = "a"
[[node]]
name = "t"
[[node]]
name = "b"
[[link]]
ends = ["a", "t"]
[[link]]
ends = ["t", "b"]
[[workload]]
name = "web"
node = "a"
[[workload]]
name = "db"
node = "b"
services = [{service}]
"#
    )
}

/// Gbit/s that arrived of one TCP stream of iperf3.
///
/// # Errors
/// iperf3 is not there, or nothing connects.
pub fn stream(lab: &Lab, from: &str, at: &str, to: IpAddr, seconds: u32) -> Result<f64> {
    let to = to.to_string();
    let server = lab.exec(at, "iperf3")?.args(["-s", "-1", "-B", &to]).stdout(Stdio::null()).spawn();
    let mut server = Server(server.context("iperf3")?);
    std::thread::sleep(Duration::from_millis(300));
    let output = lab.output(from, "iperf3", &["-c", &to, "-t", &seconds.to_string(), "-J"])?;
    server.0.wait()?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).context("iperf3 -J")?;
    match answer["end"]["sum_received"]["bits_per_second"].as_f64() {
        Some(bits) => Ok(bits / 1e9),
        None => bail!("iperf3 to {to}: {}", answer["error"]),
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
