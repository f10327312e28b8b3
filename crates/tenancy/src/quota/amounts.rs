//! Amounts by the name of a resource.

use std::collections::BTreeMap;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// From the API's type. `field` is the path of the map.
    ///
    /// # Errors
    /// Names the first amount that is not a quantity, or negative.
    pub fn parse(field: &str, wire: Option<&BTreeMap<String, Wire>>) -> Result<Self, InvalidAmount> {
        wire.into_iter()
            .flatten()
            .map(|(resource, wire)| Ok((resource.clone(), amount(|| format!("{field}[{resource}]"), wire)?)))
            .collect()
    }

    /// From what the API server or the operator counted, which is never negative. What cannot be read is left out, as if
    /// it had not been counted yet.
    pub fn observed(wire: Option<&BTreeMap<String, Wire>>) -> Self {
        wire.into_iter()
            .flatten()
            .filter_map(|(resource, wire)| Some((resource.clone(), amount(String::new, wire).ok()?)))
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
        self.0.get(resource).copied().unwrap_or_default()
    }

    /// Whether a resource is named.
    pub fn names(&self, resource: &str) -> bool {
        self.0.contains_key(resource)
    }

    /// Whether all resources of the other are named here.
    pub fn names_all_of(&self, other: &Self) -> bool {
        other.0.keys().all(|resource| self.names(resource))
    }

    /// Resources and amounts, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(resource, amount)| (resource.as_str(), *amount))
    }

    /// Whether there is nothing of anything.
    pub fn is_zero(&self) -> bool {
        self.0.values().all(|amount| amount.is_zero())
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
            match sum.0.get_mut(resource) {
                Some(of_resource) => *of_resource = of_resource.plus(*amount),
                None => drop(sum.0.insert(resource.clone(), *amount)),
            }
        }
        sum
    }

    /// What is left of the resources named here, and nothing where the other is larger.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.iter()
            .map(|(resource, amount)| {
                let left = amount.minus(other.get(resource));
                let left = if left.is_negative() { Quantity::ZERO } else { left };
                (resource.to_owned(), left)
            })
            .collect()
    }

    /// Those of the resources that the other names.
    #[must_use]
    pub fn only(&self, named: &Self) -> Self {
        self.iter()
            .filter(|(resource, _)| named.names(resource))
            .map(|(resource, amount)| (resource.to_owned(), amount))
            .collect()
    }

    /// Of the resources that both name, the smaller amount.
    #[must_use]
    pub fn least(&self, other: &Self) -> Self {
        self.iter()
            .filter(|(resource, _)| other.names(resource))
            .map(|(resource, amount)| (resource.to_owned(), amount.min(other.get(resource))))
            .collect()
    }

    /// Of the resources that either names, the larger amount.
    #[must_use]
    pub fn most(&self, other: &Self) -> Self {
        let mut most = self.0.clone();
        for (resource, amount) in &other.0 {
            let known = most.entry(resource.clone()).or_default();
            *known = (*known).max(*amount);
        }
        Self(most)
    }

    /// One amount for every resource that the other names: the one here, or nothing.
    #[must_use]
    pub fn all_of(&self, named: &Self) -> Self {
        named
            .0
            .keys()
            .map(|resource| (resource.clone(), self.get(resource)))
            .collect()
    }

    /// Without those of which there is nothing.
    #[must_use]
    pub fn without_zeros(mut self) -> Self {
        self.0.retain(|_, amount| !amount.is_zero());
        self
    }

    /// Whether there is no more of anything than the other allows. What the other does not name, it does not allow.
    pub fn fit_in(&self, other: &Self) -> bool {
        self.iter().all(|(resource, amount)| amount <= other.get(resource))
    }
}

impl FromIterator<(String, Quantity)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (String, Quantity)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
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
