//! Amounts by the name of a resource.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use crate::quantity::Quantity;

/// An amount that cannot be counted, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidAmount {
    /// Path of the field.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl InvalidAmount {
    fn new(field: impl Into<String>, problem: &impl ToString) -> Self {
        Self {
            field: field.into(),
            problem: problem.to_string(),
        }
    }
}

/// Reads one amount, which has to be nothing or more: less than nothing would give others what is not there.
///
/// # Errors
/// If it is not a quantity, or negative. `field` names it for people.
pub(crate) fn amount(field: impl Fn() -> String, wire: &Wire) -> Result<Quantity, InvalidAmount> {
    match Quantity::parse(wire) {
        Err(error) => Err(InvalidAmount::new(field(), &error)),
        Ok(quantity) if quantity.is_negative() => Err(InvalidAmount::new(
            field(),
            &format_args!("{quantity} is less than nothing; it has to be 0 or more"),
        )),
        Ok(quantity) => Ok(quantity),
    }
}

/// Amounts by the name of a resource, none of them negative.
///
/// A resource that is not named is not limited, when the amounts are limits, and not used, when they are a use.
///
/// Most name one resource or two, and some are kept for every namespace there is, so they are a list in the order of the names:
/// a tree takes room for eleven at least. What is made of others shares their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(Vec<(Arc<str>, Quantity)>);

impl Amounts {
    /// From the API's type. `field` is the path of the map.
    ///
    /// # Errors
    /// Names the first amount that is not a quantity, or negative.
    pub fn parse(field: &str, wire: Option<&BTreeMap<String, Wire>>) -> Result<Self, InvalidAmount> {
        wire.into_iter()
            .flatten()
            .map(|(resource, wire)| {
                let amount = amount(|| format!("{field}[{resource}]"), wire)?;
                Ok((Arc::from(resource.as_str()), amount))
            })
            .collect()
    }

    /// From what the API server or the operator counted, which is never negative. What cannot be read is left out, as if
    /// it had not been counted yet.
    pub fn observed(wire: Option<&BTreeMap<String, Wire>>) -> Self {
        wire.into_iter()
            .flatten()
            .filter_map(|(resource, wire)| Some((Arc::from(resource.as_str()), amount(String::new, wire).ok()?)))
            .collect()
    }

    /// To the API's type, in the canonical form.
    pub fn to_wire(&self) -> BTreeMap<String, Wire> {
        self.iter()
            .map(|(resource, amount)| (resource.to_owned(), amount.to_wire()))
            .collect()
    }

    /// The amount of a resource: nothing, if it is not named.
    pub fn get(&self, resource: &str) -> Quantity {
        self.place(resource)
            .map_or_else(|_| Quantity::default(), |at| self.0[at].1)
    }

    /// Where the resource is, or where it would be.
    fn place(&self, resource: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(resource))
    }

    /// The amount of a resource, to be changed; nothing of it is added if it is not named.
    fn entry(&mut self, resource: &Arc<str>) -> &mut Quantity {
        let at = self.place(resource).unwrap_or_else(|at| {
            self.0.insert(at, (resource.clone(), Quantity::default()));
            at
        });
        &mut self.0[at].1
    }

    /// Whether a resource is named.
    pub fn names(&self, resource: &str) -> bool {
        self.place(resource).is_ok()
    }

    /// Whether all resources of the other are named here.
    pub fn names_all_of(&self, other: &Self) -> bool {
        other.0.iter().all(|(resource, _)| self.names(resource))
    }

    /// Resources and amounts, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(resource, amount)| (&**resource, *amount))
    }

    /// Whether there is nothing of anything.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|(_, amount)| amount.is_zero())
    }

    /// The sums.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self::sum([self, other])
    }

    /// The sums of many.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for (resource, amount) in all.into_iter().flat_map(|amounts| &amounts.0) {
            let of_resource = sum.entry(resource);
            *of_resource = of_resource.plus(*amount);
        }
        sum
    }

    /// What is left of the resources named here, and nothing where the other is larger.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.0
            .iter()
            .map(|(resource, amount)| {
                let left = amount.minus(other.get(resource));
                let left = if left.is_negative() { Quantity::ZERO } else { left };
                (resource.clone(), left)
            })
            .collect()
    }

    /// Those of the resources that the other names.
    #[must_use]
    pub fn only(&self, named: &Self) -> Self {
        let named = self.0.iter().filter(|(resource, _)| named.names(resource));
        named.cloned().collect()
    }

    /// Of the resources that both name, the smaller amount.
    #[must_use]
    pub fn least(&self, other: &Self) -> Self {
        let of_both = self.0.iter().filter(|(resource, _)| other.names(resource));
        of_both
            .map(|(resource, amount)| (resource.clone(), (*amount).min(other.get(resource))))
            .collect()
    }

    /// Of the resources that either names, the larger amount.
    #[must_use]
    pub fn most(&self, other: &Self) -> Self {
        let mut most = self.clone();
        for (resource, amount) in &other.0 {
            let known = most.entry(resource);
            *known = (*known).max(*amount);
        }
        most
    }

    /// One amount for every resource that the other names: the one here, or nothing.
    #[must_use]
    pub fn all_of(&self, named: &Self) -> Self {
        let names = named.0.iter().map(|(resource, _)| resource);
        names.map(|resource| (resource.clone(), self.get(resource))).collect()
    }

    /// Without those of which there is nothing.
    #[must_use]
    pub fn without_zeros(mut self) -> Self {
        self.0.retain(|(_, amount)| !amount.is_zero());
        self
    }

    /// Whether there is no more of anything than the other allows. What the other does not name, it does not allow.
    pub fn fit_in(&self, other: &Self) -> bool {
        self.iter().all(|(resource, amount)| amount <= other.get(resource))
    }
}

/// Of a resource that is named twice, the last amount.
impl<Name: Into<Arc<str>>> FromIterator<(Name, Quantity)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (Name, Quantity)>>(pairs: I) -> Self {
        let mut amounts: Vec<(Arc<str>, Quantity)> = Vec::new();
        for (name, amount) in pairs {
            let name = name.into();
            // In the order of the names, nearly always.
            match amounts.last().map(|(last, _)| last.cmp(&name)) {
                None | Some(Ordering::Less) => amounts.push((name, amount)),
                _ => match amounts.binary_search_by(|(known, _)| known.cmp(&name)) {
                    Ok(at) => amounts[at].1 = amount,
                    Err(at) => amounts.insert(at, (name, amount)),
                },
            }
        }
        amounts.shrink_to_fit();
        Self(amounts)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `amounts("cpu=1 memory=1Gi")`.
    pub(crate) fn amounts(text: &str) -> Amounts {
        text.split_whitespace()
            .map(|pair| {
                let (resource, amount) = pair.split_once('=').unwrap();
                (resource.to_owned(), amount.parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn sums_and_differences_go_by_name() {
        let (one, other) = (amounts("cpu=1 pods=2"), amounts("cpu=500m memory=1Gi"));
        assert_eq!(one.plus(&other), amounts("cpu=1500m memory=1Gi pods=2"));
        assert_eq!(one.minus(&other), amounts("cpu=500m pods=2"));
        assert_eq!(other.minus(&one), amounts("cpu=0 memory=1Gi"));
        assert_eq!(one.only(&other), amounts("cpu=1"));
        assert_eq!(one.most(&other), amounts("cpu=1 memory=1Gi pods=2"));
        assert_eq!(
            amounts("cpu=1 pods=0").least(&amounts("cpu=2 pods=3 memory=1")),
            amounts("cpu=1 pods=0")
        );
        assert_eq!(one.all_of(&other), amounts("cpu=1 memory=0"));
        assert_eq!(amounts("cpu=0 pods=1").without_zeros(), amounts("pods=1"));
    }

    #[test]
    fn amounts_are_in_the_order_of_their_names_each_of_which_is_there_once() {
        let pairs = [("pods", 1), ("cpu", 2), ("memory", 3), ("cpu", 4)];
        let all: Amounts = pairs
            .map(|(name, number)| (name, Quantity::count(number)))
            .into_iter()
            .collect();
        assert_eq!(
            all.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["cpu", "memory", "pods"]
        );
        assert_eq!(all, amounts("cpu=4 memory=3 pods=1"));
        assert_eq!(
            (all.names("cpu"), all.names("gpu"), all.get("gpu")),
            (true, false, Quantity::ZERO)
        );
    }

    #[test]
    fn what_is_not_named_is_not_allowed_and_not_used() {
        let hard = amounts("cpu=1");
        assert!(amounts("cpu=1").fit_in(&hard));
        assert!(amounts("cpu=1 pods=0").fit_in(&hard));
        assert!(!amounts("pods=1").fit_in(&hard));
        assert!(!amounts("cpu=1001m").fit_in(&hard));
        assert!(amounts("cpu=0").is_zero() && !amounts("cpu=1n").is_zero());
    }

    #[test]
    fn an_amount_that_is_none_or_negative_is_an_error_that_says_where() {
        let parse = |text: &str| {
            let wire = BTreeMap::from([("cpu".to_owned(), Wire(text.to_owned()))]);
            Amounts::parse("spec.claim", Some(&wire)).map_err(|error| error.to_string())
        };
        assert_eq!(parse("1"), Ok(amounts("cpu=1")));
        assert_eq!(
            parse("-1"),
            Err("spec.claim[cpu]: -1 is less than nothing; it has to be 0 or more".to_owned())
        );
        assert!(
            parse("much")
                .unwrap_err()
                .starts_with("spec.claim[cpu]: \"much\" is not a quantity")
        );
    }
}
