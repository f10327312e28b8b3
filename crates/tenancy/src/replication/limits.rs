//! How much one replication may be.
//!
//! All objects are listed in one status, which has to fit into one value of etcd; and they are held in memory while they are
//! made. A replication that exceeds a limit is not ready and says which.

use api::capsule::v1beta2::Replication;

/// Objects of one replication, over all blocks, tenants and namespaces.
pub const OBJECTS: usize = 3_000;
/// Objects that one of several tenants may get of a GlobalTenantResource.
pub const OBJECTS_OF_A_TENANT: usize = 1_000;
/// Objects of one block in one namespace.
pub const OBJECTS_OF_A_BLOCK: usize = 500;
/// Blocks of one replication.
pub const BLOCKS: usize = 100;
/// References, generators or entries of the context of one block.
pub const ENTRIES: usize = 100;
/// Existing objects that one reference may select.
pub const SOURCES: u32 = 250;
/// Size of one object as JSON, in bytes.
pub const OBJECT_BYTES: usize = 1024 * 1024;
/// Size of all objects of one replication as JSON, in bytes.
pub const ALL_BYTES: usize = 16 * 1024 * 1024;
/// The part of it that one of several tenants may have.
pub const BYTES_OF_A_TENANT: usize = ALL_BYTES / 3;
/// Memory for everything that is read for one replication, in bytes as [`weight`](super::object::weight) counts them.
pub const READ_BYTES: usize = 16 * 1024 * 1024;
/// Memory for what is read for one of its places alone.
pub const READ_BYTES_OF_A_PLACE: usize = 4 * 1024 * 1024;
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

/// All generators of one block in one namespace.
pub const TEMPLATES: templates::Allowance = templates::Allowance {
    steps: 500_000,
    value_bytes: 16 * 1024 * 1024,
    output_bytes: 2 * 1024 * 1024,
};

/// Whether a replication's lists are short enough to be looked at one by one.
///
/// # Errors
/// Which is not.
pub fn check(replication: &Replication) -> Result<(), String> {
    let check = |field: &str, length: usize, most: usize| {
        if length > most {
            return Err(format!("{field} has {length} entries; at most {most} are allowed"));
        }
        Ok(())
    };
    check("spec.resources", replication.resources.len(), BLOCKS)?;
    check("spec.dependsOn", replication.depends_on.len(), ENTRIES)?;
    for (index, block) in replication.resources.iter().enumerate() {
        let of = |name: &str| format!("spec.resources[{index}].{name}");
        check(&of("namespacedItems"), block.namespaced_items.len(), ENTRIES)?;
        check(&of("rawItems"), block.raw_items.len(), OBJECTS_OF_A_BLOCK)?;
        check(&of("generators"), block.generators.len(), ENTRIES)?;
        let context = block.context.as_ref().map_or(0, |context| context.resources.len());
        check(&of("context.resources"), context, ENTRIES)?;
    }
    Ok(())
}

/// A text cut to [`MESSAGE`].
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_without_end_are_refused_by_name() {
        let replication = |resources: serde_json::Value| -> Replication {
            serde_json::from_value(json!({"resources": resources, "resyncPeriod": "60s", "settings": {}})).unwrap()
        };
        assert!(check(&replication(json!([{"rawItems": [{}, {}]}, {}]))).is_ok());
        let rows = [
            (
                json!(vec![json!({}); 101]),
                "spec.resources has 101 entries; at most 100",
            ),
            (
                json!([{"rawItems": vec![json!({}); 501]}]),
                "spec.resources[0].rawItems has 501",
            ),
            (
                json!([{}, {"generators": vec![json!({}); 101]}]),
                "spec.resources[1].generators has 101",
            ),
            (
                json!([{"namespacedItems": vec![json!({"kind": "Secret"}); 101]}]),
                "spec.resources[0].namespacedItems",
            ),
            (
                json!([{"context": {"resources": vec![json!({"kind": "Secret"}); 101]}}]),
                "spec.resources[0].context.resources",
            ),
        ];
        for (resources, expected) in rows {
            let refused = check(&replication(resources)).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
