//! Resources as people read them.
use super::table::{self, Tone, cell, plain};
use super::{age, bounds, or_dash, span, words};
use crate::text;
use proto_model::Timestamp;
use proto_model::intent::Intent;
use proto_model::request::ResourceView;
use proto_model::resource::{Attachment, Form, Liveness, Metadata, Status};

pub fn status(status: Status) -> &'static str {
    match status {
        Status::Up => "up",
        Status::Degraded => "degraded",
        Status::Draining => "draining",
        Status::Down => "down",
    }
}

fn tone(status: Status) -> Tone {
    match status {
        Status::Up => Tone::Good,
        Status::Degraded | Status::Draining => Tone::Waiting,
        Status::Down => Tone::Bad,
    }
}

/// Why it is not found beside its status; empty when it is.
pub fn liveness(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "",
        Liveness::Expired => "its lease ran out",
        Liveness::NodeLost => "its node is lost",
    }
}

/// What is wrong although its owner says that it is up; empty when nothing is.
fn but(view: &ResourceView) -> String {
    let host = &view.resource.metadata.node;
    let trouble =
        (!view.trouble.is_empty()).then(|| format!("{host} cannot make its interface: {}", view.trouble));
    let parts = [Some(liveness(view.liveness).to_owned()), trouble];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

fn form(form: Form) -> &'static str {
    match form {
        Form::VirtualMachine => "virtual machine",
        Form::Container => "container",
        Form::Serverless => "serverless",
        Form::Host => "host",
    }
}

pub fn attachment(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Path(path) => format!("namespace {path}"),
        Attachment::Named(name) => format!("namespace {name}"),
        Attachment::Process(pid) => format!("namespace of process {pid}"),
        Attachment::Host => "the host itself".into(),
        Attachment::External(ip) => format!("plain VXLAN device at {ip}"),
    }
}

fn services(metadata: &Metadata) -> String {
    words(metadata.services.iter().map(text::service))
}

pub fn list(resources: &[ResourceView]) -> String {
    let row = |view: &ResourceView| {
        let resource = &view.resource;
        vec![
            plain(&resource.id),
            cell(status(resource.status), tone(resource.status)),
            plain(&resource.metadata.node),
            plain(resource.address.v4),
            plain(resource.address.v6),
            plain(services(&resource.metadata)),
            plain(words(&view.circuits)),
            cell(but(view), Tone::Bad),
        ]
    };
    table::of(
        &["NAME", "STATUS", "NODE", "IPV4", "IPV6", "SERVICES", "CIRCUITS", ""],
        resources.iter().map(row),
        "no resources; foreweave resource register NAME --node NODE --netns NETNS registers one\n",
    )
}

pub fn one(view: &ResourceView, now: Timestamp) -> String {
    let resource = &view.resource;
    let metadata = &resource.metadata;
    let labels = metadata.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let state = match but(view).as_str() {
        "" => status(resource.status).to_owned(),
        why => format!("{}, but {why}", status(resource.status)),
    };
    let lease = resource.lease.map_or_else(
        || "as long as its node lives".into(),
        |lease| format!("{}, renewed {} ago", span(lease), age(now, resource.renewed)),
    );
    let mut pairs = vec![
        ("resource", resource.id.to_string()),
        ("status", state),
        ("form", form(metadata.form).to_owned()),
        ("node", metadata.node.to_string()),
        ("attached to", attachment(&metadata.attachment)),
        ("interface", or_dash(metadata.interface.as_ref())),
        ("fabric address", resource.address.to_string()),
        ("own addresses", words(&metadata.addresses)),
        ("services", services(metadata)),
        ("labels", words(labels)),
        ("lease", lease),
        ("registered", format!("{} ago", age(now, resource.registered))),
        ("circuits", words(&view.circuits)),
    ];
    if let (Attachment::External(_), Some(circuit)) = (&metadata.attachment, view.circuits.first()) {
        pairs.push(("set up", format!("by the commands that `foreweave circuit show {circuit}` prints")));
    }
    pairs.extend(resource.intents.iter().map(|wish| ("intent", intent(wish))));
    pairs.retain(|(_, value)| !value.is_empty());
    table::pairs(&pairs)
}

pub fn intent(intent: &Intent) -> String {
    let priority =
        if intent.priority == 0 { String::new() } else { format!(" · priority {}", intent.priority) };
    format!("{} · {}{priority}", intent.service, bounds(&intent.bounds))
}

/// One line for watchers.
pub fn line(view: &ResourceView) -> String {
    let resource = &view.resource;
    let text = format!(
        "resource {} is {} on {}  {}",
        resource.id,
        status(resource.status),
        resource.metadata.node,
        resource.address
    );
    match but(view).as_str() {
        "" => text,
        why => format!("{text}, but {why}"),
    }
}
