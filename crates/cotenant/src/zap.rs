//! The flags of the logger that both peers use.

use clap::{ArgAction, ValueEnum};

use crate::operator::LogFormat;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "flags are named after fields")]
pub(crate) struct Zap {
    /// `debug`, `info`, `warn`, `error`, `panic`, or a number: the higher, the more. Without it `info`, or `debug` with
    /// `--zap-devel`.
    #[arg(long, value_parser = log_filter)]
    zap_log_level: Option<LogFilter>,
    #[arg(long, value_enum, default_value = "console")]
    zap_encoder: Encoder,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    zap_devel: bool,
    /// Accepted, without effect: nothing prints a stack.
    #[arg(long)]
    zap_stacktrace_level: Option<String>,
    /// Accepted, without effect: times are in RFC 3339.
    #[arg(long)]
    zap_time_encoding: Option<String>,
}

impl Zap {
    pub(crate) fn filter(&self) -> String {
        let usual = if self.zap_devel { "debug" } else { "info" };
        self.zap_log_level.as_ref().map_or(usual, |filter| filter.0).to_owned()
    }

    pub(crate) fn format(&self) -> LogFormat {
        match self.zap_encoder {
            Encoder::Console => LogFormat::Text,
            Encoder::Json => LogFormat::Json,
        }
    }

    /// Names of the flags that were given for nothing.
    pub(crate) fn without_effect(&self) -> Vec<&'static str> {
        let given = [
            ("zap-stacktrace-level", &self.zap_stacktrace_level),
            ("zap-time-encoding", &self.zap_time_encoding),
        ];
        given
            .into_iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| name)
            .collect()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encoder {
    Console,
    Json,
}

/// Directives of our log filter.
#[derive(Clone, Debug, PartialEq)]
struct LogFilter(&'static str);

fn log_filter(text: &str) -> Result<LogFilter, String> {
    Ok(LogFilter(match text {
        "debug" => "debug",
        "info" | "0" => "info",
        "warn" | "warning" => "warn",
        "error" | "dpanic" | "panic" | "fatal" => "error",
        // No number leads to `trace`: there libraries show what is sent, and Secrets are.
        number if number.parse::<u8>().is_ok() => "debug",
        _ => return Err("a level is debug, info, warn, error, panic or a number from 0 to 255".to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        zap: Zap,
    }

    fn filter(flags: &[&str]) -> Result<String, clap::Error> {
        Program::try_parse_from(["program"].iter().chain(flags)).map(|program| program.zap.filter())
    }

    #[test]
    fn no_level_shows_what_libraries_send() {
        for (level, expected) in [
            ("0", "info"),
            ("1", "debug"),
            ("9", "debug"),
            ("255", "debug"),
            ("panic", "error"),
        ] {
            assert_eq!(
                filter(&[&format!("--zap-log-level={level}")]).unwrap(),
                expected,
                "{level}"
            );
        }
        assert!(filter(&["--zap-log-level=trace"]).is_err());
        assert!(filter(&["--zap-log-level=256"]).is_err());
    }

    #[test]
    fn development_is_talkative_unless_a_level_is_given() {
        assert_eq!(filter(&[]).unwrap(), "info");
        assert_eq!(filter(&["--zap-devel"]).unwrap(), "debug");
        assert_eq!(filter(&["--zap-devel=false"]).unwrap(), "info");
        assert_eq!(filter(&["--zap-devel", "--zap-log-level=warn"]).unwrap(), "warn");
    }
}
