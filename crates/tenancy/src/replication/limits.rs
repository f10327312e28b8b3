//! How much one replication may be.
//!
//! All objects are listed in one status, which has to fit into one value of etcd; and they are held in memory while they are
//! made. A replication that exceeds a limit is not ready and says which.

/// Objects of one replication, over all blocks, tenants and namespaces.
pub const OBJECTS: usize = 3_000;
/// Objects of one block in one namespace.
pub const OBJECTS_OF_A_BLOCK: usize = 500;
/// Existing objects that one reference may select.
pub const SOURCES: u32 = 250;
/// Size of one object as JSON, in bytes.
pub const OBJECT_BYTES: usize = 1024 * 1024;
/// Size of all objects of one replication as JSON, in bytes.
pub const ALL_BYTES: usize = 16 * 1024 * 1024;
/// Size of what a block's templates can look at as JSON, in bytes.
pub const CONTEXT_BYTES: usize = 4 * 1024 * 1024;
/// Length of a message about one object, in characters.
pub const MESSAGE: usize = 250;

/// One generator in one namespace.
pub const TEMPLATE: templates::Limits = templates::Limits {
    source_bytes: 128 * 1024,
    output_bytes: 1024 * 1024,
    value_bytes: 8 * 1024 * 1024,
    steps: 250_000,
    depth: 60,
    range_length: 10_000,
};

/// A text cut to [`MESSAGE`].
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
