//! API messages as JSON, by the descriptors that the API itself publishes: the field names of the `.proto` files.
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;
use std::sync::LazyLock;

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(proto_wire::DESCRIPTORS).map_err(|error| error.to_string()));

/// The proto3 JSON mapping, except that fields keep the names of the `.proto` files, 64-bit numbers are numbers, and
/// empty fields are shown. `name` is the message's name in `foreweave.v1`.
pub fn of<M: prost::Message>(name: &str, message: &M) -> Result<Value, String> {
    let pool = POOL.as_ref().map_err(Clone::clone)?;
    let descriptor = pool
        .get_message_by_name(&format!("foreweave.v1.{name}"))
        .ok_or_else(|| format!("the API has no message {name}"))?;
    let bytes = message.encode_to_vec();
    let dynamic = DynamicMessage::decode(descriptor, bytes.as_slice()).map_err(|error| error.to_string())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    dynamic.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_wire::v1;

    #[test]
    fn fields_have_the_names_of_the_proto_files_and_numbers_are_numbers() {
        let status = v1::Status { version: "1".into(), nodes: 3, started: u64::MAX, ..Default::default() };
        let json = of("Status", &status).expect("json");
        assert_eq!(json["nodes"], 3);
        assert_eq!(json["nodes_connected"], 0);
        assert_eq!(json["started"], u64::MAX);
    }

    #[test]
    fn an_unknown_message_is_named() {
        assert!(of("Nothing", &v1::Empty {}).expect_err("name").contains("Nothing"));
    }
}
