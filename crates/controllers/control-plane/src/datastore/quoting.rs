//! The one place where a name or a text becomes a part of an SQL statement.
//!
//! Statements that make users and databases take no parameters, and the names in them are chosen by authors of control
//! planes. What cannot be quoted so that exactly this name comes back is refused, never shortened or stripped: two names
//! that become one would be two control planes with one database.

/// How a server writes and limits names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoting {
    /// Stands around a name, doubled within.
    pub(super) mark: char,
    /// Longest name, in bytes; a server may cut what is longer without a word.
    pub(super) longest: usize,
}

pub(super) const POSTGRES: Quoting = Quoting { mark: '"', longest: 63 };

/// Users are shorter, which a MySQL says itself: 32 characters there, 128 with MariaDB.
pub(super) const MYSQL: Quoting = Quoting { mark: '`', longest: 64 };

/// Why a name is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unquotable {
    /// It could not be told from others.
    #[error("the name {0:?} is empty, or has a NUL or other control character")]
    Characters(String),
    /// It would be cut.
    #[error("the name {name:?} is longer than the {longest} bytes that the store takes")]
    Length { name: String, longest: usize },
}

impl Quoting {
    /// A name in its marks.
    pub(super) fn identifier(self, name: &str) -> Result<String, Unquotable> {
        self.check(name)?;
        Ok(self.marked(name))
    }

    /// What stands for names that were checked, or that the server itself has told of, in its marks.
    pub(super) fn marked(self, text: &str) -> String {
        let doubled = text.replace(self.mark, &format!("{0}{0}", self.mark));
        format!("{0}{doubled}{0}", self.mark)
    }

    /// What is refused is refused before anything is asked.
    pub(super) fn check(self, name: &str) -> Result<(), Unquotable> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Unquotable::Characters(name.to_owned()));
        }
        if name.len() > self.longest {
            return Err(Unquotable::Length {
                name: name.to_owned(),
                longest: self.longest,
            });
        }
        Ok(())
    }
}

/// A name of a database as MySQL compares rights with it: `_` and `%` stand for any character there, so that the rights on
/// `a_b` would be rights on `axb`. Not yet quoted.
pub(super) fn exactly(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '_' | '%' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// A text in quotes, for servers that take a backslash for what it is: PostgreSQL's `standard_conforming_strings`, MySQL's
/// `NO_BACKSLASH_ESCAPES`.
pub(super) fn literal(text: &str) -> Result<String, Unquotable> {
    if text.chars().any(char::is_control) {
        return Err(Unquotable::Characters("(a password)".to_owned()));
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted_whole() {
        let rows = [
            ("oil", "\"oil\"", "`oil`"),
            ("a\"b", "\"a\"\"b\"", "`a\"b`"),
            ("a`b", "\"a`b\"", "`a``b`"),
            (
                "x\"; DROP DATABASE y; --",
                "\"x\"\"; DROP DATABASE y; --\"",
                "`x\"; DROP DATABASE y; --`",
            ),
            ("back\\slash", "\"back\\slash\"", "`back\\slash`"),
            ("it's", "\"it's\"", "`it's`"),
        ];
        for (name, postgres, mysql) in rows {
            assert_eq!(POSTGRES.identifier(name).unwrap(), postgres);
            assert_eq!(MYSQL.identifier(name).unwrap(), mysql);
        }
    }

    #[test]
    fn what_would_become_another_name_is_refused() {
        for name in ["", "a\0b", "a\nb", "\u{7f}"] {
            assert_eq!(
                POSTGRES.identifier(name),
                Err(Unquotable::Characters(name.to_owned())),
                "{name:?}"
            );
        }
        assert!(POSTGRES.identifier(&"x".repeat(63)).is_ok());
        // Servers count bytes where people count letters.
        for long in ["x".repeat(64), "ä".repeat(32), "x".repeat(100_000)] {
            assert!(matches!(
                POSTGRES.identifier(&long),
                Err(Unquotable::Length { longest: 63, .. })
            ));
        }
    }

    #[test]
    fn rights_are_on_one_database() {
        assert_eq!(exactly("a_b"), "a\\_b");
        assert_eq!(exactly("100%\\"), "100\\%\\\\");
        assert_eq!(exactly("plain-1.2"), "plain-1.2");
    }

    #[test]
    fn texts_are_quoted_whole() {
        assert_eq!(literal("it's").unwrap(), "'it''s'");
        assert_eq!(literal("a\\' OR 1=1 --").unwrap(), "'a\\'' OR 1=1 --'");
        assert!(literal("a\0").is_err());
    }

    proptest! {
        /// Read as a server reads it, exactly the name comes back, and nothing is left over.
        #[test]
        fn a_quoted_name_ends_where_it_ends(name in "\\PC{0,40}") {
            for quoting in [POSTGRES, MYSQL] {
                let Ok(quoted) = quoting.identifier(&name) else { continue };
                let mut rest = quoted.chars();
                prop_assert_eq!(rest.next(), Some(quoting.mark));
                let mut read = String::new();
                loop {
                    match rest.next() {
                        Some(mark) if mark == quoting.mark => match rest.clone().next() {
                            Some(again) if again == quoting.mark => {
                                rest.next();
                                read.push(mark);
                            }
                            _ => break,
                        },
                        Some(character) => read.push(character),
                        None => prop_assert!(false, "it does not end: {quoted}"),
                    }
                }
                prop_assert_eq!(&read, &name);
                prop_assert_eq!(rest.as_str(), "");
            }
        }
    }
}
