//! The fabric's words on gRPC: the generated messages, and their conversion to and from `proto-model`.
//!
//! Only [`convert`] sees unvalidated foreign data; past it, a value is well formed by its type.

/// Generated from `proto/foreweave/v1`; the comments there are the documentation.
pub mod v1 {
    #![expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::doc_markdown,
        reason = "generated code"
    )]
    tonic::include_proto!("foreweave.v1");
}

pub mod convert;

/// All files as a `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
