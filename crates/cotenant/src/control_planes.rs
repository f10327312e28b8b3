//! Flags about hosted control planes, under the names that Kamaji gives them; both ways to start that half have them.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use control_plane_controller::Settings;
use jiff::SignedDuration;

use crate::operator::duration;

/// Leaves last a year. A window as long as that would replace them without end.
const RENEWAL: (Duration, Duration) = (Duration::from_hours(24), Duration::from_hours(24 * 180));

/// What is not given is as the controller has it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// Image of kine, which stands between API servers and stores that are no etcd, where a control plane names none.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    kine_image: Option<String>,
    /// Image of this very program, of which control planes run a container that share one port with their tunnel.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    own_image: Option<String>,
    /// Control planes that are worked on at a time. [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    max_concurrent_tcp_reconciles: Option<u16>,
    /// How long one look at a control plane may take. [default: 30s]
    #[arg(long, value_parser = some_time)]
    controller_reconcile_timeout: Option<Duration>,
    /// How soon a control plane is looked at although nothing has changed. [default: 10h]
    #[arg(long, value_parser = some_time)]
    cache_resync_period: Option<Duration>,
    /// How long before its end a certificate is replaced: 24h to 4320h. [default: 720h]
    #[arg(long, value_parser = renewal_window)]
    certificate_expiration_deadline: Option<Duration>,
}

impl Flags {
    /// The controller's settings as these flags have them.
    pub(crate) fn settings(&self) -> Settings {
        let usual = Settings::default();
        let window = self
            .certificate_expiration_deadline
            .and_then(|window| SignedDuration::try_from(window).ok());
        Settings {
            kine_image: self.kine_image.clone().unwrap_or(usual.kine_image),
            own_image: self.own_image.clone(),
            concurrency: self
                .max_concurrent_tcp_reconciles
                .map_or(usual.concurrency, usize::from),
            pass_within: self.controller_reconcile_timeout.unwrap_or(usual.pass_within),
            resync: self.cache_resync_period.unwrap_or(usual.resync),
            renewal_window: window.unwrap_or(usual.renewal_window),
            ..usual
        }
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it has to be longer than nothing".to_owned()),
        given => Ok(given),
    }
}

fn renewal_window(text: &str) -> Result<Duration, String> {
    let given = duration(text)?;
    if (RENEWAL.0..=RENEWAL.1).contains(&given) {
        Ok(given)
    } else {
        Err("it has to be 24h to 4320h, half a year: certificates last a year".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    fn settings(flags: &[&str]) -> Result<Settings, clap::Error> {
        Program::try_parse_from(["program"].iter().chain(flags)).map(|program| program.flags.settings())
    }

    #[test]
    fn each_flag_reaches_the_controller() {
        let given = settings(&[
            "--kine-image=mirror.example/kine:1",
            "--own-image=mirror.example/cotenant:1",
            "--max-concurrent-tcp-reconciles=9",
            "--controller-reconcile-timeout=1m30s",
            "--cache-resync-period=2h",
            "--certificate-expiration-deadline=48h",
        ])
        .unwrap();
        assert_eq!(given.kine_image, "mirror.example/kine:1");
        assert_eq!(given.own_image.as_deref(), Some("mirror.example/cotenant:1"));
        assert_eq!(given.concurrency, 9);
        assert_eq!(given.pass_within, Duration::from_secs(90));
        assert_eq!(given.resync, Duration::from_hours(2));
        assert_eq!(given.renewal_window, SignedDuration::from_hours(48));
        let usual = settings(&[]).unwrap();
        assert_eq!(usual.concurrency, 4);
        assert_eq!(usual.pass_within, Duration::from_secs(30));
        assert_eq!(usual.resync, Duration::from_hours(10));
        assert_eq!(usual.renewal_window, SignedDuration::from_hours(720));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for flag in [
            "--kine-image=",
            "--own-image=",
            "--max-concurrent-tcp-reconciles=0",
            "--controller-reconcile-timeout=0s",
            "--controller-reconcile-timeout=-1s",
            "--cache-resync-period=0s",
            "--certificate-expiration-deadline=23h59m",
            "--certificate-expiration-deadline=7d",
            "--certificate-expiration-deadline=4321h",
        ] {
            assert!(settings(&[flag]).is_err(), "{flag}");
        }
    }
}
