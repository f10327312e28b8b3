//! Which claims are in use.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::division::Asking;
use crate::{quantity::Quantity, quota::amounts::Amounts};

/// The claims of one namespace that cover what it uses, by UID. Claims come with the oldest first.
///
/// In each step the claim is taken that covers the largest part of what is not covered yet, of equals the oldest, until
/// everything is covered or nothing more can be. A resource counts by the part of its use that is covered, so that bytes do
/// not outweigh cores.
pub(super) fn in_use<'a>(claims: &[Asking<'a>], used: &Amounts) -> Vec<&'a str> {
    let mut uncovered = used.clone().without_zeros();
    let mut taken = Vec::new();
    // What a claim covers only becomes less, so what was worked out before is the most that it can be: the first in the
    // heap is worked out again, and is the best if it still covers that.
    let mut heap: BinaryHeap<(u64, Reverse<usize>)> = claims
        .iter()
        .enumerate()
        .map(|(index, claim)| (rank(claim.asked, &uncovered, used), Reverse(index)))
        .collect();
    while let Some((expected, Reverse(index))) = heap.pop() {
        let Some(claim) = claims.get(index).filter(|_| expected > 0) else {
            break;
        };
        let covers = rank(claim.asked, &uncovered, used);
        if covers < expected {
            heap.push((covers, Reverse(index)));
            continue;
        }
        uncovered = uncovered.minus(claim.asked).without_zeros();
        taken.push(claim.uid);
    }
    taken
}

/// The sum over all resources of the part of the use that a claim covers and others do not, as a number that is ordered as
/// the sum is: floats that are not negative are ordered as their bits.
fn rank(asked: &Amounts, uncovered: &Amounts, used: &Amounts) -> u64 {
    let part = |(resource, uncovered): (&str, Quantity)| {
        asked.get(resource).min(uncovered).to_f64() / used.get(resource).to_f64()
    };
    uncovered.iter().map(part).fold(0.0, |sum, part| sum + part).to_bits()
}
