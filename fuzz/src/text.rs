//! What people type: parsing never panics, and what it accepts reads back from how it is shown.
use proto_model::request::CircuitRef;
use proto_model::rule::{Prefix, RuleSpec};
use proto_model::{Bandwidth, Latency, Loss, Name, Price};
use std::fmt::{Debug, Display};
use std::str::FromStr;

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    exact::<Name>(text);
    exact::<RuleSpec>(text);
    exact::<Prefix>(text);
    exact::<CircuitRef>(text);
    // Quantities are shown with three decimals.
    shown::<Bandwidth>(text);
    shown::<Latency>(text);
    shown::<Loss>(text);
    shown::<Price>(text);
}

fn exact<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    assert_eq!(value.to_string().parse::<T>().expect("what is shown can be typed"), value);
}

fn shown<T: FromStr<Err: Debug> + Display>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    value.to_string().parse::<T>().expect("what is shown can be typed");
}
