//! Reads single fields: each function names the field, its value and what is allowed.
use super::{Malformed, Result, limits};
use proto_model::name::NotAName;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

pub(super) fn name<T: FromStr<Err = NotAName>>(field: &str, text: &str) -> Result<T> {
    text.parse().map_err(|fault: NotAName| Malformed::new(field, fault.to_string()))
}

/// Empty text is `None`.
pub(super) fn name_if_any<T: FromStr<Err = NotAName>>(field: &str, text: &str) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { name(field, text).map(Some) }
}

pub(super) fn names<T: FromStr<Err = NotAName>>(
    field: &str,
    most: usize,
    texts: &[String],
) -> Result<Vec<T>> {
    count(field, most, texts.len())?;
    texts
        .iter()
        .enumerate()
        .map(|(i, text)| name("", text).map_err(|m| m.within(&format!("{field}[{i}]"))))
        .collect()
}

pub(super) fn name_set<T>(field: &str, most: usize, texts: &[String]) -> Result<BTreeSet<T>>
where
    T: FromStr<Err = NotAName> + Ord,
{
    Ok(names(field, most, texts)?.into_iter().collect())
}

/// The one word that two sets which exclude each other share.
pub(super) fn disjoint<T: Ord + Display>(
    field: &str,
    one: &BTreeSet<T>,
    other_field: &str,
    other: &BTreeSet<T>,
) -> Result<()> {
    match one.intersection(other).next() {
        Some(both) => Err(Malformed::new(
            field,
            format!("{both} is in {other_field} too; it can be in one of them only"),
        )),
        None => Ok(()),
    }
}

pub(super) fn strings<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

pub(super) fn count(field: &str, most: usize, have: usize) -> Result<()> {
    if have > most {
        Err(Malformed::new(field, format!("has {have} entries, at most {most} are allowed")))
    } else {
        Ok(())
    }
}

pub(super) fn required<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Malformed::new(field, "is missing"))
}

/// A message inside a message.
pub(super) fn inner<A, B: TryFrom<A, Error = Malformed>>(field: &str, value: A) -> Result<B> {
    B::try_from(value).map_err(|malformed| malformed.within(field))
}

pub(super) fn needed<A, B: TryFrom<A, Error = Malformed>>(field: &str, value: Option<A>) -> Result<B> {
    inner(field, required(field, value)?)
}

pub(super) fn optional<A, B: TryFrom<A, Error = Malformed>>(
    field: &str,
    value: Option<A>,
) -> Result<Option<B>> {
    value.map(|value| inner(field, value)).transpose()
}

pub(super) fn list<A, B: TryFrom<A, Error = Malformed>>(
    field: &str,
    most: usize,
    items: Vec<A>,
) -> Result<Vec<B>> {
    count(field, most, items.len())?;
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| B::try_from(item).map_err(|malformed| malformed.within(&format!("{field}[{i}]"))))
        .collect()
}

pub(super) fn each<A, B: From<A>>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(B::from).collect()
}

/// A number from `least` to `most`; `unit` starts with a space or is empty.
pub(super) fn ranged<T>(field: &str, value: u64, least: u64, most: u64, unit: &str) -> Result<T>
where
    T: TryFrom<u64>,
{
    if (least..=most).contains(&value)
        && let Ok(value) = T::try_from(value)
    {
        return Ok(value);
    }
    Err(Malformed::new(field, format!("{value}{unit} is not between {least} and {most}{unit}")))
}

pub(super) fn port(field: &str, value: u32, least: u16) -> Result<u16> {
    ranged(field, value.into(), least.into(), u16::MAX.into(), "")
}

pub(super) fn byte(field: &str, value: u32) -> Result<u8> {
    ranged(field, value.into(), 0, 255, "")
}

pub(super) fn address(field: &str, text: &str) -> Result<IpAddr> {
    text.parse()
        .map_err(|_| Malformed::new(field, format!("\"{}\" is not an IPv4 or IPv6 address", shown(text))))
}

pub(super) fn addresses(field: &str, texts: &[String]) -> Result<Vec<IpAddr>> {
    count(field, limits::ADDRESSES, texts.len())?;
    texts.iter().enumerate().map(|(i, text)| address(&format!("{field}[{i}]"), text)).collect()
}

pub(super) fn address_if_any(field: &str, text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() { Ok(None) } else { address(field, text).map(Some) }
}

/// Free text for people. It ends on somebody's terminal: what would steer that is replaced.
pub(super) fn sentence(field: &str, text: String) -> Result<String> {
    Ok(harmless(bounded(field, text, limits::SENTENCE_BYTES)?))
}

/// `text` on one line and in reading order; never longer than it was.
pub(super) fn harmless(text: String) -> String {
    if !text.contains(steers) {
        return text;
    }
    let replacement = |c: char| if c.is_whitespace() { ' ' } else { '?' };
    text.chars().map(|c| if steers(c) { replacement(c) } else { c }).collect()
}

/// Control characters, line separators, and the marks that change the direction of text.
pub(super) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub(super) fn sentences(field: &str, texts: Vec<String>) -> Result<Vec<String>> {
    count(field, limits::SENTENCES, texts.len())?;
    texts.into_iter().enumerate().map(|(i, text)| sentence(&format!("{field}[{i}]"), text)).collect()
}

pub(super) fn bounded(field: &str, text: String, most: usize) -> Result<String> {
    if text.len() > most {
        return Err(Malformed::new(field, format!("has {} bytes, at most {most} are allowed", text.len())));
    }
    Ok(text)
}

/// What the kernel takes as the name of an interface (`dev_valid_name` in net/core/dev.c).
pub(super) fn interface(field: &str, text: String) -> Result<String> {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || steers(c);
    let why = match text.as_str() {
        "" => "it is empty",
        "." | ".." => "the kernel reserves it",
        long if long.len() > limits::INTERFACE_BYTES => "it is longer than 15 bytes",
        bad if bad.contains(forbidden) => "it has a character that is not allowed",
        _ => return Ok(text),
    };
    let allowed = "allowed: 1 to 15 bytes without /, :, white space and control characters";
    Err(Malformed::new(
        field,
        format!("\"{}\" is not the name of an interface: {why} ({allowed})", shown(&text)),
    ))
}

/// As much of foreign text as fits into an error, on one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// `text` cut to what the other side accepts as a sentence.
pub(super) fn clipped(mut text: String) -> String {
    if text.len() > limits::SENTENCE_BYTES {
        let end = (0..=limits::SENTENCE_BYTES - '…'.len_utf8()).rev().find(|i| text.is_char_boundary(*i));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

pub(super) fn all_clipped(mut texts: Vec<String>) -> Vec<String> {
    texts.truncate(limits::SENTENCES);
    texts.into_iter().map(clipped).collect()
}

/// A value of an enumeration that this side does not know.
pub(super) fn unknown(field: &str, value: i32, allowed: &str) -> Malformed {
    Malformed::new(field, format!("{value} is none of {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_does_not_get_through_a_sentence() {
        for (said, read) in [
            ("plain, ümlaut and 日本", "plain, ümlaut and 日本"),
            ("red \u{1b}[31mtext\u{7}", "red ?[31mtext?"),
            ("two\nlines\r\tof \u{2028}text", "two lines  of  text"),
            ("\u{9b}31m \u{202e}txt.exe\u{2069}\0\u{7f}", "?31m ?txt.exe???"),
        ] {
            assert_eq!(sentence("why", said.into()), Ok(read.into()));
        }
        let longest = "\u{85}\u{9b}".repeat(limits::SENTENCE_BYTES / 4);
        let read = sentence("why", longest.clone()).expect("as long as is allowed");
        assert!(read.len() <= longest.len() && !read.contains(steers));
    }

    #[test]
    fn what_steers_a_terminal_is_in_no_name_of_an_interface() {
        assert_eq!(interface("interface", "eth0.7@x".into()), Ok("eth0.7@x".into()));
        for bad in ["e\u{1b}[2J", "a\nb", "a\u{7f}", "a\u{202e}b", "a\0"] {
            let refused = interface("interface", bad.into()).expect_err(bad).to_string();
            assert!(refused.contains("control characters") && !refused.contains(steers), "{refused:?}");
        }
    }
}
