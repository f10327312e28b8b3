//! Amounts in replicated ResourceQuotas and LimitRanges.

use api::capsule::v1beta2::TenantSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use crate::{denial::Denial, quantity::Quantity};

pub(super) fn check_quotas(spec: &TenantSpec) -> Result<(), Denial> {
    for (index, item) in spec.resource_quotas.iter().flat_map(|quotas| &quotas.items).enumerate() {
        for (resource, amount) in item.hard.iter().flatten() {
            check_amount(&format!("spec.resourceQuotas.items[{index}].hard[{resource}]"), amount)?;
        }
    }
    for (index, range) in spec.limit_ranges.iter().flat_map(|ranges| &ranges.items).enumerate() {
        for (at, limit) in range.limits.iter().enumerate() {
            let maps = [
                ("default", &limit.default),
                ("defaultRequest", &limit.default_request),
                ("max", &limit.max),
                ("min", &limit.min),
                ("maxLimitRequestRatio", &limit.max_limit_request_ratio),
            ];
            for (part, map) in maps {
                for (resource, amount) in map.iter().flatten() {
                    check_amount(
                        &format!("spec.limitRanges.items[{index}].limits[{at}].{part}[{resource}]"),
                        amount,
                    )?;
                }
            }
        }
    }
    Ok(())
}

fn check_amount(field: &str, amount: &Wire) -> Result<(), Denial> {
    let refuse = |detail: String| Err(Denial::new(field, "QuantityInvalid", format!("{field}: {detail}")));
    match Quantity::parse(amount) {
        Ok(amount) if amount.is_negative() => refuse(format!("{amount} is negative; it has to be 0 or more")),
        Ok(_) => Ok(()),
        Err(error) => refuse(error.to_string()),
    }
}
