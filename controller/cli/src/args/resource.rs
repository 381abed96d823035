//! Resources, and finding them.
use super::bounds::BoundsArgs;
use crate::text::{DAY, IntentText, Label, ServiceText, Span, span};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use proto_model::intent::Intent;
use proto_model::resource::{Attachment, Form, Metadata, Status};
use proto_model::{NodeName, ResourceId, ServiceName};
use std::net::IpAddr;

#[derive(Debug, Subcommand)]
pub enum Resource {
    /// Register a resource, or renew and replace what is registered under its name
    Register(Register),
    /// List the resources
    List,
    /// Show one resource
    Show {
        /// Name of the resource
        name: ResourceId,
    },
    /// Renew its lease and say how it is
    Status {
        /// Name of the resource
        name: ResourceId,
        /// up; degraded: found last; draining: not found for new circuits; down: not found, its circuits are suspended
        status: StatusWord,
    },
    /// Remove a resource and release its address
    Remove {
        /// Name of the resource
        name: ResourceId,
        /// Delete its circuits first
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusWord {
    Up,
    Degraded,
    Draining,
    Down,
}

impl From<StatusWord> for Status {
    fn from(word: StatusWord) -> Self {
        match word {
            StatusWord::Up => Self::Up,
            StatusWord::Degraded => Self::Degraded,
            StatusWord::Draining => Self::Draining,
            StatusWord::Down => Self::Down,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormWord {
    Vm,
    Container,
    Serverless,
    Host,
}

impl From<FormWord> for Form {
    fn from(word: FormWord) -> Self {
        match word {
            FormWord::Vm => Self::VirtualMachine,
            FormWord::Container => Self::Container,
            FormWord::Serverless => Self::Serverless,
            FormWord::Host => Self::Host,
        }
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true))]
pub struct Register {
    /// Name of the resource, unique in the region
    pub name: ResourceId,
    /// Host that it runs on, or with --external the host with an agent that is next to it
    #[arg(long)]
    pub node: NodeName,
    /// Its network namespace, by its name under /run/netns
    #[arg(long, value_name = "NAME", group = "where")]
    pub netns: Option<String>,
    /// Its network namespace, by absolute path
    #[arg(long, value_name = "PATH", group = "where")]
    pub netns_path: Option<String>,
    /// Its network namespace: that of the process with this number
    #[arg(long, value_name = "PID", group = "where")]
    pub pid: Option<u32>,
    /// It is the host itself
    #[arg(long, group = "where")]
    pub host: bool,
    /// It is next to the host: a plain VXLAN device without agent, at this underlay address
    #[arg(long, value_name = "ADDRESS", group = "where")]
    pub external: Option<IpAddr>,
    /// Name for its interface, 1 to 15 bytes [default: chosen by the fabric]
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// A service that it offers, like http=tcp/80
    #[arg(long = "service", value_name = "NAME=PROTOCOL/PORT")]
    pub services: Vec<ServiceText>,
    /// A capability or label, like gpu=a100
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Label>,
    /// An address in its own network, for people and for search
    #[arg(long = "address", value_name = "IP")]
    pub addresses: Vec<IpAddr>,
    /// What it wants to talk to, like "service=http latency=20ms bandwidth=10mbit encrypted"; the other words are
    /// max-price, max-hops, via, avoid, require-tag, avoid-tag and priority
    #[arg(long = "intent", value_name = "WORDS")]
    pub intents: Vec<IntentText>,
    /// What sort of thing it is [default: host with --host, container otherwise]
    #[arg(long)]
    pub form: Option<FormWord>,
    /// Registration ends unless it is renewed this often, 1s to 30d [default: it lives as long as its node]
    #[arg(long, value_name = "TIME", value_parser = span(1, 30 * DAY))]
    pub lease: Option<Span>,
}

impl Register {
    pub fn metadata(&self) -> Metadata {
        let attachment = self.attachment();
        let form = self.form.map_or_else(|| usual_form(&attachment), Form::from);
        Metadata {
            form,
            node: self.node.clone(),
            attachment,
            interface: self.interface.clone(),
            addresses: self.addresses.clone(),
            labels: self.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
            services: self.services.iter().map(|service| service.0.clone()).collect(),
        }
    }

    pub fn intents(&self) -> Vec<Intent> {
        self.intents.iter().map(|intent| intent.0.clone()).collect()
    }

    /// The arguments' group makes sure that one of them is given; the last is the one without a value.
    fn attachment(&self) -> Attachment {
        if let Some(name) = &self.netns {
            Attachment::Named(name.clone())
        } else if let Some(path) = &self.netns_path {
            Attachment::Path(path.clone())
        } else if let Some(pid) = self.pid {
            Attachment::Process(pid)
        } else if let Some(address) = self.external {
            Attachment::External(address)
        } else {
            Attachment::Host
        }
    }
}

fn usual_form(attachment: &Attachment) -> Form {
    match attachment {
        Attachment::Host | Attachment::External(_) => Form::Host,
        Attachment::Path(_) | Attachment::Named(_) | Attachment::Process(_) => Form::Container,
    }
}

#[derive(Debug, Args)]
pub struct Discover {
    /// Who wants to talk; without it only services are matched, and no paths are computed
    #[arg(long, value_name = "RESOURCE", required_unless_present = "service")]
    pub from: Option<ResourceId>,
    /// What it wants to talk to [default: the intents that it registered]
    #[arg(long, value_name = "NAME")]
    pub service: Option<ServiceName>,
    #[command(flatten)]
    pub bounds: BoundsArgs,
    /// From 0 (least) to 255
    #[arg(long, default_value_t = 0)]
    pub priority: u8,
}

impl Discover {
    /// Empty: those of the source.
    pub fn intents(&self) -> Vec<Intent> {
        let intent = |service: &ServiceName| Intent {
            service: service.clone(),
            bounds: self.bounds.bounds(),
            priority: self.priority,
        };
        self.service.iter().map(intent).collect()
    }
}
