//! Command lines of the hosted components.
//!
//! Three layers meet: flags that the control plane cannot work without, defaults that somebody may replace, and the
//! flags of the control plane's author. Which layer wins differs per component and is part of the contract.
//!
//! Names are compared the way the components themselves compare them, with `_` read as `-`: otherwise
//! `--etcd_prefix=/` as an author's flag would follow ours and win.

use std::collections::BTreeMap;

/// Flags by name without the leading dashes. An empty value prints the bare flag.
pub(crate) type Flags = BTreeMap<&'static str, String>;

/// The name of a flag as the components see it: no dashes in front, no value, `_` as `-`.
pub(super) fn name_of(argument: &str) -> String {
    let argument = argument.trim_start_matches('-');
    argument
        .split_once('=')
        .map_or(argument, |(name, _)| name)
        .replace('_', "-")
}

fn print(name: &str, value: &str) -> String {
    if value.is_empty() {
        format!("--{name}")
    } else {
        format!("--{name}={value}")
    }
}

/// kube-apiserver: `managed` always wins, `defaults` yield to the author's flags, and the author's flags follow ours in
/// their own order and repetition.
pub(super) fn layered(managed: &Flags, defaults: &Flags, author: &[String]) -> Vec<String> {
    let author: Vec<&String> = author
        .iter()
        .filter(|argument| !managed.contains_key(name_of(argument).as_str()))
        .collect();
    let set_by_author = |name: &str| author.iter().any(|argument| name_of(argument) == name);
    let mut own: Flags = managed.clone();
    for (name, value) in defaults {
        if !set_by_author(name) {
            own.entry(name).or_insert_with(|| value.clone());
        }
    }
    own.iter()
        .map(|(name, value)| print(name, value))
        .chain(author.into_iter().cloned())
        .collect()
}

/// Which side of [`merged`] replaces the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Winner {
    /// The control plane's author.
    Author,
    /// We.
    Own,
}

/// kube-controller-manager (the author wins) and kube-scheduler (we win): one flag per name, sorted.
pub(crate) fn merged(own: &Flags, author: &[String], winner: Winner) -> Vec<String> {
    let mut merged: BTreeMap<String, String> = own
        .iter()
        .map(|(name, value)| ((*name).to_owned(), print(name, value)))
        .collect();
    for argument in author {
        let name = name_of(argument);
        if winner == Winner::Author || !own.contains_key(name.as_str()) {
            merged.insert(name, argument.clone());
        }
    }
    merged.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(pairs: &[(&'static str, &str)]) -> Flags {
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    fn author(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|argument| (*argument).to_owned()).collect()
    }

    #[test]
    fn a_managed_flag_drops_every_spelling_of_the_authors() {
        let managed = flags(&[("etcd-prefix", "/mine")]);
        for spelling in [
            "--etcd-prefix=/theirs",
            "--etcd_prefix=/theirs",
            "-etcd-prefix=/theirs",
            "--etcd-prefix",
        ] {
            let arguments = layered(&managed, &Flags::new(), &author(&[spelling, "--v=4"]));
            assert_eq!(arguments, ["--etcd-prefix=/mine", "--v=4"], "{spelling}");
        }
    }

    #[test]
    fn a_default_yields_and_the_authors_flags_keep_their_order_and_repetition() {
        let managed = flags(&[("secure-port", "6443")]);
        let defaults = flags(&[("allow-privileged", "true"), ("authorization-mode", "Node,RBAC")]);
        let arguments = layered(
            &managed,
            &defaults,
            &author(&[
                "--z=1",
                "--tls-sni-cert-key=a,b",
                "--allow_privileged=false",
                "--tls-sni-cert-key=c,d",
            ]),
        );
        assert_eq!(
            arguments,
            [
                "--authorization-mode=Node,RBAC",
                "--secure-port=6443",
                "--z=1",
                "--tls-sni-cert-key=a,b",
                "--allow_privileged=false",
                "--tls-sni-cert-key=c,d"
            ]
        );
    }

    #[test]
    fn the_winner_of_a_merge_is_who_the_contract_says() {
        let own = flags(&[("leader-elect", "true"), ("bind-address", "0.0.0.0")]);
        let author = author(&["--leader-elect=false", "--v=2"]);
        assert_eq!(
            merged(&own, &author, Winner::Author),
            ["--bind-address=0.0.0.0", "--leader-elect=false", "--v=2"]
        );
        assert_eq!(
            merged(&own, &author, Winner::Own),
            ["--bind-address=0.0.0.0", "--leader-elect=true", "--v=2"]
        );
    }

    #[test]
    fn an_empty_value_prints_the_bare_flag() {
        assert_eq!(
            layered(&flags(&[("profiling", "")]), &Flags::new(), &[]),
            ["--profiling"]
        );
    }
}
