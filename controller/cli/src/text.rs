//! Values that are written as text only here: spans, services, labels, intents, rule files.
use proto_model::intent::{Bounds, Intent};
use proto_model::resource::Service;
use proto_model::rule::{Ports, Protocol, RuleSpec};
use proto_model::{Name, ServiceName, Until, Weighed, Weight};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A span of time: `300ms`, `30s`, `15m`, `12h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

const SPANS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Longer than any span that the API takes.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = || {
            format!("\"{text}\" is not a span of time up to 366d; write it like 300ms, 30s, 15m, 12h or 7d")
        };
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refusal)?;
        let (number, unit) = text.split_at(split);
        let (_, millis) = SPANS.iter().find(|(name, _)| *name == unit).ok_or_else(refusal)?;
        let number: u64 = number.parse().map_err(|_| refusal())?;
        let span = Duration::from_millis(number.saturating_mul(*millis));
        if span > LONGEST { Err(refusal()) } else { Ok(Self(span)) }
    }
}

/// For an option that takes no span below `least` nor above `most`, both in seconds.
pub fn span(least: u64, most: u64) -> impl Fn(&str) -> Result<Span, String> + Clone + Send + Sync + 'static {
    move |text| {
        let span: Span = text.parse()?;
        let [least, most] = [least, most].map(Duration::from_secs);
        match (least..=most).contains(&span.0) {
            true => Ok(span),
            false => Err(format!("{span} is not between {} and {}", Span(least), Span(most))),
        }
    }
}

/// When something begins: a time, or so long from now.
pub fn start(text: &str) -> Result<Until, String> {
    let at = Until::parse("until", text);
    at.or_else(|_| Until::parse("for", text)).map_err(|_| {
        format!("\"{text}\" is neither a time in UTC like 2026-11-21T12:00:00Z nor a span from 1s to 366d like 30m")
    })
}

/// Seconds.
pub const MINUTE: u64 = 60;
pub const DAY: u64 = 86_400;

impl fmt::Display for Span {
    /// In the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis() as u64;
        if millis == 0 {
            return f.write_str("0s");
        }
        let whole = |(_, size): &&(&str, u64)| millis >= *size && millis.is_multiple_of(*size);
        let (unit, size) = SPANS.iter().find(whole).unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", millis / size)
    }
}

/// `http=tcp/80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceText(pub Service);

impl FromStr for ServiceText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = |why: &str| {
            format!("\"{text}\" is not a service: {why}; write it like http=tcp/80 or dns=udp/53")
        };
        let (name, rest) = text.split_once('=').ok_or_else(|| refusal("there is no ="))?;
        let name: ServiceName = name.parse().map_err(|why| refusal(&format!("{why}")))?;
        let (protocol, port) = rest.split_once('/').ok_or_else(|| refusal("there is no /"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(refusal(&format!("\"{other}\" is not tcp or udp"))),
        };
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Self(Service { name, protocol, port })),
            Ok(_) | Err(_) => Err(refusal(&format!("\"{port}\" is not a port from 1 to 65535"))),
        }
    }
}

/// `gpu=a100`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub key: Name,
    pub value: String,
}

impl FromStr for Label {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("\"{text}\" is not a label; write it like gpu=a100"))?;
        let key = key.parse().map_err(|why: proto_model::name::NotAName| why.to_string())?;
        Ok(Self { key, value: value.into() })
    }
}

/// `rtt=2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnWeight {
    pub term: Weighed,
    pub weight: Weight,
}

impl FromStr for OwnWeight {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (term, weight) = text.split_once('=').ok_or_else(|| {
            format!("\"{text}\" is not a term with a weight; write it like rtt=2 or price=0")
        })?;
        Ok(Self { term: term.parse()?, weight: weight.parse()? })
    }
}

/// `service=http latency=20ms bandwidth=10mbit encrypted`: the words are those of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentText(pub Intent);

impl FromStr for IntentText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = |why: String| {
            format!(
                "\"{text}\" is not an intent: {why}; write it like \"service=http latency=20ms bandwidth=10mbit encrypted\""
            )
        };
        let mut service: Option<ServiceName> = None;
        let mut priority = 0;
        let mut bounds = Bounds::default();
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "service" => service = Some(parsed(key, value).map_err(refusal)?),
                "priority" => priority = parsed(key, value).map_err(refusal)?,
                _ => bound(&mut bounds, key, value).map_err(refusal)?,
            }
        }
        let service = service.ok_or_else(|| refusal("there is no service=…".into()))?;
        Ok(Self(Intent { service, bounds, priority }))
    }
}

pub fn bound(bounds: &mut Bounds, key: &str, value: &str) -> Result<(), String> {
    match key {
        "latency" => bounds.max_rtt = Some(parsed(key, value)?),
        "loss" => bounds.max_loss = Some(parsed(key, value)?),
        "bandwidth" => bounds.bandwidth = parsed(key, value)?,
        "encrypted" if value.is_empty() => bounds.encrypted = true,
        "encrypted-links" if value.is_empty() => bounds.encrypted_links = true,
        "max-price" => bounds.max_price = Some(parsed(key, value)?),
        "max-hops" => bounds.max_hops = Some(parsed(key, value)?),
        "via" => bounds.via.extend(list(key, value)?),
        "avoid" => bounds.avoid.extend(list(key, value)?),
        "require-tag" => bounds.require_tags.extend(list(key, value)?),
        "avoid-tag" => bounds.avoid_tags.extend(list(key, value)?),
        "risk" => bounds.risk = Some(parsed(key, value)?),
        "horizon" => bounds.horizon = Some(parsed(key, value)?),
        "weight" => {
            let own: Vec<OwnWeight> = list(key, value)?;
            bounds.weights.extend(own.into_iter().map(|own| (own.term, own.weight)));
        }
        other => {
            return Err(format!(
                "\"{other}\" is not one of service, latency, loss, bandwidth, encrypted, encrypted-links, max-price, \
                 max-hops, via, avoid, require-tag, avoid-tag, risk, horizon, weight, priority"
            ));
        }
    }
    Ok(())
}

pub fn parsed<T: FromStr<Err: fmt::Display>>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|why| format!("{key}: {why}"))
}

pub fn list<T: FromStr<Err: fmt::Display>>(key: &str, value: &str) -> Result<Vec<T>, String> {
    value.split(',').map(|item| parsed(key, item)).collect()
}

/// One rule per line; `#` starts a comment. An error names the line.
pub fn rules(text: &str) -> Result<Vec<RuleSpec>, String> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if !line.is_empty() {
            rules.push(line.parse().map_err(|why| format!("line {}: {why}", number + 1))?);
        }
    }
    Ok(rules)
}

/// As people write a service: `http tcp/80`.
pub fn service(service: &Service) -> String {
    let spec = RuleSpec {
        action: proto_model::rule::Action::Allow,
        opener: proto_model::rule::Opener::Forward,
        protocol: service.protocol,
        ports: Ports { from: service.port, to: service.port },
        source: None,
        destination: None,
        until: None,
    };
    format!("{} {}", service.name, spec.to_string().trim_start_matches("allow "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::{Bandwidth, Latency, Loss};

    #[test]
    fn a_span_reads_back_as_it_is_shown() {
        for text in ["0s", "300ms", "30s", "90s", "15m", "12h", "7d"] {
            assert_eq!(text.parse::<Span>().map(|span| span.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("60s".parse::<Span>().map(|span| span.to_string()), Ok("1m".into()));
    }

    #[test]
    fn a_span_outside_of_what_an_option_takes_is_refused_with_both_ends() {
        let within = span(1, DAY);
        assert_eq!(within("1s"), Ok(Span(Duration::from_secs(1))));
        assert_eq!(within("24h"), Ok(Span(Duration::from_secs(DAY))));
        for (text, shown) in [("0s", "0s"), ("999ms", "999ms"), ("25h", "25h")] {
            assert_eq!(within(text), Err(format!("{shown} is not between 1s and 1d")));
        }
    }

    #[test]
    fn a_start_is_a_time_or_a_span() {
        assert_eq!(start("30m"), Ok(Until::After(Duration::from_secs(1800))));
        let at = start("2026-11-21T12:00:00Z").map(Until::at);
        assert_eq!(at, Ok("2026-11-21T12:00:00Z".parse().ok()));
        for text in ["", "soon", "0s", "367d", "2026-11-21"] {
            assert!(start(text).expect_err(text).contains("2026-11-21T12:00:00Z"), "{text}");
        }
    }

    #[test]
    fn an_absurd_span_is_refused() {
        for text in
            ["", "30", "s", "-1s", "1.5h", "367d", "99999999999999999999d", "18446744073709551615d", "1w"]
        {
            let refusal = text.parse::<Span>().expect_err(text);
            assert!(refusal.contains("30s"), "{refusal}");
        }
    }

    #[test]
    fn an_intent_takes_every_bound() {
        let text = "service=http latency=20ms loss=0.5% bandwidth=10mbit encrypted encrypted-links max-price=0.02 \
                    max-hops=3 via=a,b avoid=c require-tag=eu avoid-tag=x,y risk=1% horizon=5m weight=rtt=2,price=0 priority=7";
        let IntentText(intent) = text.parse().expect("intent");
        assert_eq!(intent.service.as_str(), "http");
        assert_eq!(intent.priority, 7);
        let bounds = intent.bounds;
        assert_eq!(bounds.max_rtt, Some(Latency::from_millis(20)));
        assert_eq!(bounds.max_loss, Some(Loss::from_ppm(5_000)));
        assert_eq!(bounds.bandwidth, Bandwidth::mbit(10));
        assert!(bounds.encrypted && bounds.encrypted_links);
        assert_eq!(bounds.max_price.map(|p| p.micro_dollars_per_gb()), Some(20_000));
        assert_eq!((bounds.max_hops, bounds.via.len(), bounds.avoid.len()), (Some(3), 2, 1));
        assert_eq!((bounds.require_tags.len(), bounds.avoid_tags.len()), (1, 2));
        assert_eq!(bounds.risk.map(proto_model::Risk::ppm), Some(10_000));
        assert_eq!(bounds.horizon.map(proto_model::Horizon::span), Some(Duration::from_secs(300)));
        let weights: Vec<_> = bounds.weights.iter().map(|(term, own)| (*term, own.value())).collect();
        assert_eq!(weights, [(Weighed::Rtt, 2.0), (Weighed::Price, 0.0)]);
    }

    #[test]
    fn a_wrong_intent_says_what_is_wrong() {
        for (text, why) in [
            ("latency=20ms", "no service"),
            ("service=Http", "not allowed"),
            ("service=http latency=20", "20ms or 300us"),
            ("service=http loss=101%", "0 to 100 %"),
            ("service=http speed=1", "\"speed\" is not one of"),
            ("service=http encrypted=no", "is not one of"),
            ("service=http priority=300", "priority"),
            ("service=http latency=20ms risk=0.5%", "from 1 to 25 %"),
            ("service=http latency=20ms horizon=2h", "from 1 s to 1 h"),
            ("service=http weight=speed=1", "there are rtt, hop, load, loss, price, unknown"),
            ("service=http weight=rtt=-1", "not between 0 and 1e9"),
        ] {
            let refusal = text.parse::<IntentText>().expect_err(text);
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn a_wrong_service_or_label_says_what_is_wrong() {
        for (text, why) in [
            ("http", "no ="),
            ("http=tcp", "no /"),
            ("http=icmp/8", "not tcp or udp"),
            ("http=tcp/0", "1 to 65535"),
            ("http=tcp/65536", "1 to 65535"),
            ("Web=tcp/80", "not a name"),
        ] {
            let refusal = text.parse::<ServiceText>().expect_err(text);
            assert!(refusal.contains(why), "{refusal}");
        }
        assert!("gpu".parse::<Label>().is_err());
        assert!("GPU=1".parse::<Label>().is_err());
        assert_eq!("gpu=a=b".parse::<Label>().map(|l| l.value), Ok("a=b".into()));
    }

    #[test]
    fn a_rule_file_names_its_wrong_line() {
        let good = "# web\nallow tcp/443\n\n  deny any   # the rest\n";
        assert_eq!(rules(good).map(|rules| rules.len()), Ok(2));
        let refusal = rules("allow tcp/443\nallow tpc/80\n").expect_err("tpc");
        assert!(refusal.starts_with("line 2:") && refusal.contains("tpc"), "{refusal}");
    }
}
