//! A page of documentation about a kind, as far as a test can hold it to something: examples, tables, links.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A page.
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A block of YAML that a reader may try.
///
/// Words behind the fence's `yaml` say how: `as=NAME` who applies it, otherwise an administrator of the cluster;
/// `refused` that it does not pass. Then a quotation follows, with a part of what the author reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Example {
    /// File and line of the fence.
    pub(crate) place: String,
    pub(crate) user: Option<String>,
    pub(crate) yaml: String,
    /// What the refusal says.
    pub(crate) refusal: Option<String>,
}

/// A row of a table: its cells without the outer bars.
pub(crate) type Row = Vec<String>;

impl Page {
    /// Reads a page.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            path: path.to_owned(),
            text,
        }
    }

    /// The kind that the page is about: its title.
    pub(crate) fn kind(&self) -> &str {
        let title = self.text.lines().next().and_then(|line| line.strip_prefix("# "));
        title.unwrap_or_else(|| panic!("{}: no title", self.path.display()))
    }

    /// Blocks of YAML, in the order in which they are read.
    pub(crate) fn examples(&self) -> Vec<Example> {
        let mut examples = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(words) = line.strip_prefix("```yaml") else {
                continue;
            };
            let place = format!("{}:{}", self.path.display(), number + 1);
            let yaml: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .collect();
            let words: Vec<&str> = words.split_whitespace().collect();
            for word in &words {
                assert!(
                    *word == "refused" || word.starts_with("as="),
                    "{place}: what is {word}?"
                );
            }
            let refusal = words.contains(&"refused").then(|| {
                let behind = self
                    .text
                    .lines()
                    .skip(number + yaml.len() + 2)
                    .skip_while(|line| line.is_empty());
                let said: Vec<&str> = behind.map_while(|line| line.strip_prefix("> ")).collect();
                assert!(!said.is_empty(), "{place}: a refusal without its sentence");
                said.join(" ")
            });
            examples.push(Example {
                place,
                user: words
                    .iter()
                    .find_map(|word| word.strip_prefix("as="))
                    .map(str::to_owned),
                yaml: yaml.join("\n"),
                refusal,
            });
        }
        examples
    }

    /// Rows of all tables whose first column has this title.
    pub(crate) fn rows(&self, title: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut inside = false;
        for line in self.text.lines() {
            let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
                inside = false;
                continue;
            };
            let cells: Row = cells.split('|').map(|cell| cell.trim().to_owned()).collect();
            if !inside {
                inside = cells[0] == title;
            } else if !cells[0].starts_with("---") {
                rows.push(cells);
            }
        }
        rows
    }

    /// What commands of the page put into Secrets: namespace, name, key.
    pub(crate) fn secrets(&self) -> Vec<[String; 3]> {
        let mut secrets = Vec::new();
        for command in self.text.replace("\\\n", " ").lines() {
            let words: Vec<&str> = command.split_whitespace().collect();
            let [
                "kubectl",
                "-n",
                namespace,
                "create",
                "secret",
                "generic",
                name,
                values @ ..,
            ] = &words[..]
            else {
                continue;
            };
            for value in values {
                let given = ["--from-file=", "--from-literal="]
                    .iter()
                    .find_map(|flag| value.strip_prefix(flag));
                let key = given.and_then(|given| given.split('=').next());
                let key = key.unwrap_or_else(|| panic!("{}: what is {value}?", self.path.display()));
                secrets.push([namespace, name, key].map(str::to_owned));
            }
        }
        secrets
    }

    /// Files and headings that the page links to.
    pub(crate) fn links(&self) -> Vec<(PathBuf, Option<String>)> {
        let folder = self.path.parent().expect("a file is in a folder");
        let targets = self.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let ours = targets.filter(|target| !target.starts_with("https://"));
        ours.map(|target| match target.split_once('#') {
            Some(("", heading)) => (self.path.clone(), Some(heading.to_owned())),
            Some((file, heading)) => (folder.join(file), Some(heading.to_owned())),
            None => (folder.join(target), None),
        })
        .collect()
    }

    /// Headings as links name them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        let kept = |letter: &char| letter.is_alphanumeric() || ['-', '_', ' '].contains(letter);
        headings
            .map(|line| line.trim_start_matches('#').trim().to_lowercase())
            .map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-"))
            .collect()
    }
}

/// Words in backquotes of a cell.
pub(crate) fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The schema of a field: `spec.owners[].name` or, where any key may be, `spec.nodeSelector.<key>`.
pub(crate) fn field<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |schema, segment| {
        let name = segment.trim_end_matches("[]");
        let mut found = match name {
            "<key>" => schema.get("additionalProperties")?,
            _ => schema.get("properties")?.get(name)?,
        };
        for _ in 0..(segment.len() - name.len()) / 2 {
            found = found.get("items")?;
        }
        Some(found)
    })
}

/// All fields of a schema that have no fields themselves, as [`field`] finds them but without brackets.
pub(crate) fn leaves(schema: &Value) -> Vec<String> {
    if let Some(items) = schema.get("items") {
        return leaves(items);
    }
    let named = schema.get("properties").and_then(Value::as_object);
    let any = schema.get("additionalProperties").filter(|any| any.is_object());
    let parts = named.into_iter().flatten().map(|(name, part)| (name.as_str(), part));
    let parts = parts.chain(any.map(|any| ("<key>", any)));
    let below = parts.flat_map(|(name, part)| match &leaves(part)[..] {
        [] => vec![name.to_owned()],
        below => below.iter().map(|below| format!("{name}.{below}")).collect(),
    });
    below.collect()
}

#[test]
fn an_example_is_read_with_who_applies_it_and_what_comes_back() {
    let page = Page {
        path: "a.md".into(),
        text: "# Oil\n```yaml\na: 1\n```\n\n```yaml as=alice refused\nb: 2\n```\n\n> no: b is 2;\n> use 3\n\nx"
            .to_owned(),
    };
    let example = |place: &str, user: Option<&str>, yaml: &str, refusal: Option<&str>| Example {
        place: place.to_owned(),
        user: user.map(str::to_owned),
        yaml: yaml.to_owned(),
        refusal: refusal.map(str::to_owned),
    };
    assert_eq!(page.kind(), "Oil");
    assert_eq!(
        page.examples(),
        [
            example("a.md:2", None, "a: 1", None),
            example("a.md:6", Some("alice"), "b: 2", Some("no: b is 2; use 3")),
        ]
    );
}

#[test]
fn rows_are_those_of_tables_with_that_title() {
    let page = Page {
        path: "a.md".into(),
        text: "| field | default |\n|---|---|\n| `a`, `b` | |\n\n| reason | |\n|---|---|\n| x | y |\n".to_owned(),
    };
    assert_eq!(page.rows("field"), [["`a`, `b`", ""]]);
    assert_eq!(quoted("`a`, `b`"), ["a", "b"]);
}

#[test]
fn a_field_is_found_through_lists_and_maps() {
    let schema = serde_json::json!({"properties": {"spec": {"properties": {
        "owners": {"items": {"properties": {"labels": {"additionalProperties": {"type": "string"}}}}},
    }}}});
    assert!(field(&schema, "spec.owners[].labels.<key>").is_some());
    assert!(field(&schema, "spec.owners.labels").is_none());
    assert!(field(&schema, "spec.owner").is_none());
}

#[test]
fn fields_without_fields_are_leaves() {
    let text = serde_json::json!({"type": "string"});
    let schema = serde_json::json!({"properties": {"metadata": {"type": "object"}, "spec": {"properties": {
        "owners": {"items": {"properties": {"labels": {"additionalProperties": text}, "name": text}}},
    }}}});
    let found = ["metadata", "spec.owners.labels.<key>", "spec.owners.name"];
    assert_eq!(leaves(&schema), found);
}

#[test]
fn secrets_are_those_that_commands_make() {
    let text = "kubectl -n db create secret generic admin --from-literal=user=a=b \\\n  --from-file=ca.crt\nkubectl get secrets";
    let page = Page {
        path: "a.md".into(),
        text: text.to_owned(),
    };
    assert_eq!(page.secrets(), [["db", "admin", "user"], ["db", "admin", "ca.crt"]]);
}

#[test]
fn links_name_headings_as_their_anchors() {
    let text = "# Oil\n## What `kubectl` shows\n[a](#what-kubectl-shows), [b](../b.md), [c](https://c)".to_owned();
    let page = Page {
        path: "docs/a.md".into(),
        text,
    };
    assert_eq!(page.anchors(), ["oil", "what-kubectl-shows"]);
    let same = ("docs/a.md".into(), Some("what-kubectl-shows".to_owned()));
    assert_eq!(page.links(), [same, ("docs/../b.md".into(), None)]);
}
