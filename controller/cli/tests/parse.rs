//! What is typed becomes what is meant, and what cannot be meant is refused with what would be right.
use clap::Parser;
use controller_cli::args::circuit::{Circuit, Create};
use controller_cli::args::resource::{Register, Resource};
use controller_cli::args::rule::Rule;
use controller_cli::args::{Cli, Command, fabric};
use proto_model::access::Role;
use proto_model::request::CircuitRef;
use proto_model::resource::{Attachment, Form};
use proto_model::rule::RuleSpec;
use proto_model::{Bandwidth, CircuitId, Latency, Loss, Price};
use std::time::Duration;

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(words(line)).map_err(|error| error.to_string())
}

fn create(line: &str) -> Create {
    match parse(line).expect(line).command {
        Command::Circuit(Circuit::Create(create)) => create,
        other => panic!("{other:?}"),
    }
}

fn register(line: &str) -> Register {
    match parse(line).expect(line).command {
        Command::Resource(Resource::Register(register)) => register,
        other => panic!("{other:?}"),
    }
}

#[test]
fn circuits_of_a_file_have_their_own_words_each() {
    let create = create("foreweave circuit create --file wishes --move");
    assert!(create.moves && create.wish.file.is_some() && create.wish.request().is_none());
    for more in ["web db", "--bandwidth 1mbit", "--start 2h", "--allow tcp/1", "--priority 3"] {
        let refusal = parse(&format!("foreweave circuit plan --file wishes {more}")).expect_err(more);
        assert!(refusal.contains("cannot be used with"), "{refusal}");
    }
    assert!(parse("foreweave circuit create web").expect_err("one end").contains("DST"));
}

#[test]
fn a_circuit_takes_every_option() {
    let create = create(
        "foreweave circuit create web db --latency 20ms --loss 1% --bandwidth 200mbit --encrypted --max-price \
         0.02$/GB --max-hops 3 --via a,b --via c --avoid d --require-tag eu --avoid-tag cheap --priority 7 --path x,y,z \
         --risk 1% --horizon 5m --weight rtt=2,hop=0.5 --weight price=0 \
         --name fast --idempotency-key k1 --wait 3s",
    );
    let request = create.wish.request().expect("one circuit");
    assert_eq!((request.source.as_str(), request.destination.as_str()), ("web", "db"));
    assert_eq!(request.name.as_ref().map(|name| name.as_str()), Some("fast"));
    assert_eq!(request.priority, 7);
    let bounds = &request.bounds;
    assert_eq!(bounds.max_rtt, Some(Latency::from_millis(20)));
    assert_eq!(bounds.max_loss, Some(Loss::from_ppm(10_000)));
    assert_eq!(bounds.bandwidth, Bandwidth::mbit(200));
    assert!(bounds.encrypted);
    assert_eq!(bounds.max_price, Some(Price::from_micro_dollars_per_gb(20_000)));
    assert_eq!((bounds.max_hops, bounds.via.len(), bounds.avoid.len()), (Some(3), 3, 1));
    assert_eq!((bounds.require_tags.len(), bounds.avoid_tags.len()), (1, 1));
    assert_eq!(bounds.risk.map(|risk| risk.share()), Some(0.01));
    assert_eq!(bounds.horizon.map(|horizon| horizon.span()), Some(Duration::from_secs(300)));
    let weights: Vec<_> = bounds.weights.iter().map(|(term, own)| (term.to_string(), own.value())).collect();
    assert_eq!(weights, [("rtt".into(), 2.0), ("hop".into(), 0.5), ("price".into(), 0.0)]);
    let path: Vec<&str> = request.pinned_path.iter().flatten().map(|node| node.as_str()).collect();
    assert_eq!(path, ["x", "y", "z"]);
    assert_eq!(create.idempotency_key.as_deref(), Some("k1"));
    assert_eq!(create.wait.duration(), Duration::from_secs(3));
}

#[test]
fn a_circuit_without_options_is_best_effort_and_waits_ten_seconds() {
    let create = create("foreweave circuit create web db");
    let request = create.wish.request().expect("one circuit");
    assert_eq!(request.bounds, Default::default());
    assert_eq!((request.pinned_path, request.rules.len(), request.priority), (None, 0, 0));
    assert_eq!(create.wait.duration(), Duration::from_secs(10));
    assert_eq!(self::create("foreweave circuit create web db --no-wait").wait.duration(), Duration::ZERO);
}

#[test]
fn rules_keep_the_order_in_which_they_were_typed() {
    let create = create(
        "foreweave circuit create web db --deny \"tcp/22 from 100.64.0.9\" --allow tcp/1-1024 \
         --rule \"deny udp/53 reverse\" --allow icmp --deny any",
    );
    let rules: Vec<String> = create.wish.rules.rules.iter().map(RuleSpec::to_string).collect();
    let typed = [
        "deny tcp/22 from 100.64.0.9/32",
        "allow tcp/1-1024",
        "deny udp/53 reverse",
        "allow icmp",
        "deny any",
    ];
    assert_eq!(rules, typed);
}

#[test]
fn a_resource_takes_every_option() {
    let register = register(
        "foreweave resource register web --node edge-a --netns web --interface fabric0 --service http=tcp/80 \
         --service dns=udp/53 --label gpu=a100 --address 192.168.1.10 --address fd00::1 \
         --intent \"service=db latency=5ms\" --form vm --lease 30s",
    );
    let metadata = register.metadata();
    assert_eq!(metadata.attachment, Attachment::Named("web".into()));
    assert_eq!(metadata.form, Form::VirtualMachine);
    assert_eq!((metadata.services.len(), metadata.addresses.len(), metadata.labels.len()), (2, 2, 1));
    assert_eq!(metadata.interface.as_deref(), Some("fabric0"));
    assert_eq!(register.intents().len(), 1);
    assert_eq!(register.lease.map(|lease| lease.0), Some(Duration::from_secs(30)));
}

#[test]
fn a_resource_is_attached_in_one_of_five_ways() {
    let attached = |option: &str| {
        let metadata = register(&format!("foreweave resource register web --node a {option}")).metadata();
        (metadata.attachment, metadata.form)
    };
    assert_eq!(attached("--netns w"), (Attachment::Named("w".into()), Form::Container));
    assert_eq!(attached("--netns-path /run/x"), (Attachment::Path("/run/x".into()), Form::Container));
    assert_eq!(attached("--pid 12"), (Attachment::Process(12), Form::Container));
    assert_eq!(attached("--host"), (Attachment::Host, Form::Host));
    let external = Attachment::External([192, 0, 2, 9].into());
    assert_eq!(attached("--external 192.0.2.9"), (external, Form::Host));
    assert!(parse("foreweave resource register web --node a").is_err());
    assert!(parse("foreweave resource register web --node a --host --pid 12").is_err());
}

#[test]
fn a_link_takes_every_option() {
    let line = "foreweave link set a b --network wan --latency 10ms --capacity 1gbit --loss 0.1% --price 0.05 \
                --encrypted --tag eu --tag fast --disable";
    let Command::Link(fabric::Link::Set(set)) = parse(line).expect(line).command else {
        panic!("not a link")
    };
    assert_eq!(set.network.map(|network| network.to_string()), Some("wan".into()));
    assert_eq!(set.latency, Some(Latency::from_millis(10)));
    assert_eq!(set.capacity, Some(Bandwidth::mbit(1000)));
    assert_eq!(set.loss, Loss::from_ppm(1_000));
    assert_eq!(set.price, Price::from_micro_dollars_per_gb(50_000));
    assert!(set.encrypted && set.disable);
    assert_eq!(set.tags.len(), 2);
}

#[test]
fn links_are_shown_by_their_ends() {
    let Command::Link(fabric::Link::Show { which: show, .. }) =
        parse("foreweave link show a b --network wan").expect("link").command
    else {
        panic!("not show")
    };
    assert_eq!((show.a.as_str(), show.b.as_str()), ("a", "b"));
    assert_eq!(show.network.map(|network| network.to_string()), Some("wan".into()));
    assert!(parse("foreweave link show a").is_err());
}

#[test]
fn circuits_are_named_or_numbered() {
    for (text, expected) in [
        ("c42", CircuitRef::Id(CircuitId(42))),
        ("web-db", CircuitRef::Name("web-db".parse().expect("name"))),
    ] {
        let Command::Explain(named) = parse(&format!("foreweave explain {text}")).expect(text).command else {
            panic!("not explain")
        };
        assert_eq!(named.circuit, expected);
    }
}

#[test]
fn rules_are_added_removed_and_replaced() {
    let rule = |line: &str| match parse(line).expect(line).command {
        Command::Rule(rule) => rule,
        other => panic!("{other:?}"),
    };
    let Rule::Add { rules, before, .. } =
        rule("foreweave rule add c1 \"allow tcp/443\" \"deny any\" --before 3")
    else {
        panic!("not add")
    };
    assert_eq!((rules.len(), before), (2, Some(3)));
    let Rule::Remove { ids, .. } = rule("foreweave rule remove c1 3 4") else { panic!("not remove") };
    assert_eq!(ids, [3, 4]);
    let Rule::Replace { rules, file, none, .. } = rule("foreweave rule replace c1 --none") else {
        panic!("not replace")
    };
    assert!(rules.is_empty() && file.is_none() && none);
    assert!(parse("foreweave rule replace c1").is_err());
    assert!(parse("foreweave rule replace c1 \"allow any\" --none").is_err());
    assert!(parse("foreweave rule replace c1 \"allow any\" --file f").is_err());
}

#[test]
fn clients_nodes_drops_and_watches_are_understood() {
    let Command::Client(fabric::Client::Add { role, .. }) =
        parse("foreweave client add ci --role operator").expect("client").command
    else {
        panic!("not client")
    };
    assert_eq!(role, Role::Operator);
    let Command::Node(fabric::Node::Add { lifetime, .. }) =
        parse("foreweave node add a --lifetime 2d").expect("node").command
    else {
        panic!("not node")
    };
    assert_eq!(lifetime.0, Duration::from_secs(2 * 86_400));
    let Command::Drops(drops) = parse("foreweave drops -f --circuit web-db --node a").expect("drops").command
    else {
        panic!("not drops")
    };
    assert!(drops.follow && drops.circuit.is_some() && drops.node.is_some());
    let Command::Watch(kinds) = parse("foreweave watch --nodes").expect("watch").command else {
        panic!("not watch")
    };
    assert!(kinds.nodes && !kinds.circuits && !kinds.resources);
}

#[test]
fn global_options_go_anywhere() {
    for line in ["foreweave --json --timeout 5s status", "foreweave status --json --timeout 5s"] {
        let cli = parse(line).expect(line);
        assert!(cli.global.json);
        assert_eq!(cli.global.timeout.0, Duration::from_secs(5));
    }
}

#[test]
fn a_wrong_value_is_refused_with_what_would_be_right() {
    for (line, why) in [
        ("foreweave circuit create web db --latency 20", "20ms or 300us"),
        ("foreweave circuit create web db --bandwidth 200", "200mbit"),
        ("foreweave circuit create web db --bandwidth 11tbit", "up to 10 Tbit/s"),
        ("foreweave circuit create web db --max-price cheap", "0.02$/GB"),
        ("foreweave circuit create web db --loss 101%", "0 to 100 %"),
        ("foreweave circuit create web db --loss 5", "0.5% or 1200ppm"),
        ("foreweave circuit create web db --max-hops 17", "1..=16"),
        ("foreweave circuit create web db --priority 256", "256"),
        ("foreweave circuit create Web db", "allowed: 1 to 63 of a-z"),
        ("foreweave circuit create web", "<DST>"),
        ("foreweave circuit create web db --allow tpc/80", "not tcp, udp, icmp, any"),
        ("foreweave circuit create web db --rule \"permit tcp/80\"", "allow or deny"),
        ("foreweave circuit create web db --wait 10", "30s"),
        ("foreweave circuit create web db --wait 3s --no-wait", "cannot be used with"),
        ("foreweave link set a b --loss 101%", "0 to 100 %"),
        ("foreweave client add ci --role root", "admin, operator, viewer"),
        ("foreweave resource register web --node a --host --service http", "http=tcp/80"),
        ("foreweave resource register web --node a --host --intent latency=1ms", "no service="),
        ("foreweave resource status web broken", "degraded"),
        ("foreweave discover", "--from"),
        ("foreweave drops --circuit C_1", "not a name"),
        ("foreweave circuit crate web db", "create"),
    ] {
        let refusal = parse(line).expect_err(line);
        assert!(refusal.contains(why), "{line}: {refusal}");
    }
}

#[test]
fn a_drawing_needs_a_place_and_a_past_that_is_kept() {
    let drawing = |text: &str| match parse(text).expect(text).command {
        Command::Explain(wish) => wish.drawing,
        Command::Circuit(Circuit::Explain(wish)) => wish.drawing,
        Command::Link(fabric::Link::Show { drawing, .. }) => drawing,
        other => panic!("{other:?}"),
    };
    let plain = drawing("foreweave explain web-db");
    assert!(!plain.sheet.is_wanted() && plain.check().is_ok());
    let chart = drawing("foreweave circuit explain web-db --chart --past 3h");
    assert!(chart.sheet.is_wanted() && chart.check().is_ok());
    assert_eq!(chart.sheet.past().as_secs(), 3 * 3_600);
    assert_eq!(drawing("foreweave link show a b --svg x.svg").sheet.past().as_secs(), 240);
    let nowhere = drawing("foreweave explain web-db --loss").check().expect_err("nothing is drawn");
    assert!(nowhere.hint().contains("--chart, or --svg FILE"), "{}", nowhere.hint());
    for wrong in ["9s", "8d", "soon"] {
        let refusal = parse(&format!("foreweave explain web-db --chart --past {wrong}")).expect_err(wrong);
        assert!(refusal.contains("10s") || refusal.contains("write it like"), "{refusal}");
    }
}
