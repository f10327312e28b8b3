//! Pages of documentation whose commands are walked as a reader would: in one shell, at the root of the repository, from the
//! first line to the last.
//!
//! What is behind a command, after two spaces and `# `, says what comes of it: `refused: …` that it fails, `prints: …` that it
//! succeeds, each with these words in what it says. Any other remark is for readers alone, and the command succeeds.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::cluster::Cluster;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Does what the page says, and fails with the first line that is not true.
pub(crate) fn the_page_is_true(cluster: &Cluster, page: &str) {
    let text = fs::read_to_string(Path::new(ROOT).join(page)).expect("the page is there");
    // The page speaks of the cluster and the program that `make up` makes.
    let text = text
        .replace(
            "/var/lib/cotenant/cotenant",
            &cluster.state.join(&cluster.name).display().to_string(),
        )
        .replace("$PWD/target/release", &program().display().to_string());
    let lines = lines(&text);
    assert!(!lines.is_empty(), "{page} has no commands");
    let mut shell = Shell::start(cluster);
    for line in lines {
        let (succeeded, said) = shell.run(&line.command);
        let (wanted, words) = match &line.end {
            End::Done => (true, ""),
            End::Prints(words) => (true, words.as_str()),
            End::Refused(words) => (false, words.as_str()),
        };
        assert!(
            succeeded == wanted && said.contains(words),
            "{page}:{}: {}\nit should have {}, saying {words:?}; it said:\n{said}",
            line.number,
            line.command,
            if wanted { "succeeded" } else { "failed" },
        );
    }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cotenant"))
        .parent()
        .expect("it lies in a folder")
}

#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Where the command begins, counted from 1.
    number: usize,
    command: String,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Done,
    Prints(String),
    Refused(String),
}

/// The commands in the page's blocks of `sh`. A backslash at the end of a line joins it with the next.
fn lines(page: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut begun: Option<(usize, String)> = None;
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```sh";
            continue;
        }
        if !inside || line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (first, mut text) = begun.take().unwrap_or((number + 1, String::new()));
        if let Some(part) = line.strip_suffix('\\') {
            text.push_str(part);
            begun = Some((first, text));
            continue;
        }
        let (command, remark) = line.rsplit_once("  # ").unwrap_or((line, ""));
        assert!(!command.contains(" # "), "two spaces stand before a remark: {line}");
        text.push_str(command.trim_end());
        let words = |word: &str| remark.strip_prefix(word).map(|words| words.trim().to_owned());
        let end = match (words("refused:"), words("prints:")) {
            (Some(words), _) => End::Refused(words),
            (_, Some(words)) => End::Prints(words),
            _ => End::Done,
        };
        found.push(Line {
            number: first,
            command: text,
            end,
        });
    }
    found
}

/// One shell, in which functions and variables stay.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    runs: usize,
}

impl Shell {
    fn start(cluster: &Cluster) -> Self {
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(ROOT)
            .env_remove("KUBECONFIG")
            .env("HOME", &cluster.state)
            .env("COTENANT_CLUSTER", &cluster.name)
            .env("COTENANT_STATE", &cluster.state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash can be run");
        let mut input = child.stdin.take().expect("piped");
        writeln!(input, "exec 2>&1").expect("bash reads");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            input,
            output,
            runs: 0,
        }
    }

    /// Whether the command succeeded, and what it said.
    fn run(&mut self, command: &str) -> (bool, String) {
        self.runs += 1;
        let end = format!("--- end of {}:", self.runs);
        writeln!(self.input, "{{ {command}\n}} < /dev/null\nprintf '\\n{end} %s\\n' $?").expect("bash reads");
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("bash says text");
            assert!(read > 0, "the shell ended at: {command}\n{said}");
            if let Some(code) = line.strip_prefix(&end) {
                return (code.trim() == "0", said);
            }
            said.push_str(&line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_line_is_a_command_and_what_comes_of_it() {
    let page = "# Oil\n```sh\n# first\na b           # an old remark\nc --x=# \\\n  d  # refused: no\n\n```\n```yaml\ne: f\n```\n```sh\ng  # prints: yes # and more\n```\n";
    let line = |number, command: &str, end| Line {
        number,
        command: command.to_owned(),
        end,
    };
    assert_eq!(
        lines(page),
        [
            line(4, "a b", End::Done),
            line(5, "c --x=#   d", End::Refused("no".to_owned())),
            line(13, "g", End::Prints("yes # and more".to_owned())),
        ]
    );
}
