//! The wire between the coordinator, agents and operators: generated, and nothing hand-written.
//!
//! The sources are in `rehull/v1/*.proto`; `tests/generated.rs` regenerates and compares them.

/// Version 1 of the protocol. What the messages mean is written in the `.proto` files.
#[expect(missing_docs, clippy::large_enum_variant, reason = "generated, documented in .proto")]
pub mod v1 {
    include!("generated/rehull.v1.rs");

    /// Descriptors of all messages and services, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/rehull.v1.bin");
}
