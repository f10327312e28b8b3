//! The one thing of a cluster that stays on the machine's network: a bridge with a subnet of its own.
//!
//! Nodes hang on the bridge by veth pairs and talk to each other and to the machine over it; nothing is routed further
//! and nothing is masqueraded, because nothing outside is ever reached. Where the machine filters bridged packets and
//! drops forwarded ones by default (a container engine does that), one accept rule for this bridge is added and taken
//! away again. Every name is made from the cluster's name, so that what a killed process left behind can be found.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Taken while a subnet is chosen, so that two clusters started at once do not choose the same one.
const LOCK: &str = "/run/lock/cotenant-network.lock";

/// The kernel's list of the machine's links.
const LINKS: &str = "/sys/class/net";
const BRIDGE_PREFIX: &str = "cot-";
/// Room for a link's alias, its closing zero included (`IFALIASZ`).
const ALIAS_BYTES: usize = 256;

/// A cluster's piece of the machine's network: 10.77.N.0/24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    third: u8,
}

impl Subnet {
    /// The subnet 10.77.`third`.0/24.
    pub const fn new(third: u8) -> Self {
        Self { third }
    }

    /// The address with this last byte.
    pub const fn host(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.third, last)
    }

    /// The machine's own address on the bridge.
    pub const fn machine(self) -> Ipv4Addr {
        self.host(1)
    }

    /// The admin node's address.
    pub const fn admin(self) -> Ipv4Addr {
        self.host(2)
    }

    pub const fn contains(self, address: Ipv4Addr) -> bool {
        let [a, b, c, _] = address.octets();
        a == 10 && b == 77 && c == self.third
    }

    /// The first subnet that holds none of these addresses.
    pub fn first_free(used: &[Ipv4Addr]) -> Option<Self> {
        (0..=255)
            .map(Self::new)
            .find(|subnet| !used.iter().any(|address| subnet.contains(*address)))
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/24", self.host(0))
    }
}

/// The bridge's name: `cot-` and eight digits of the cluster's name's hash (an interface name has 15 bytes).
pub fn bridge_name(cluster: &str) -> String {
    format!("{BRIDGE_PREFIX}{}", short_hash(cluster))
}

/// The machine's end of a node's veth pair.
pub fn link_name(cluster: &str, node: &str) -> String {
    format!("cotv-{}", short_hash(&format!("{cluster}/{node}")))
}

/// A node's hardware address follows from its address: a node that was started anew is reached at once, not after the
/// neighbours' tables have forgotten the old one.
pub fn hardware_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:ce:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(4)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Holds the machine-wide lock under which subnets are chosen.
pub fn lock() -> Result<Flock<File>> {
    std::fs::create_dir_all("/run/lock").map_err(Error::file("create directory", "/run/lock"))?;
    let file = File::options()
        .create(true)
        .append(true)
        .open(LOCK)
        .map_err(Error::file("open the lock", LOCK))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::file("lock", LOCK)(std::io::Error::from(errno)))
}

/// Every IPv4 address that the machine has now, and which link has it.
pub fn machine_addresses() -> Result<Vec<(String, Ipv4Addr)>> {
    addresses_of(&run("ip", &["-json", "-4", "address", "show"])?)
}

fn addresses_of(json: &str) -> Result<Vec<(String, Ipv4Addr)>> {
    #[derive(Deserialize)]
    struct Link {
        // Some versions of ip(8) print an empty object for a link without such an address.
        #[serde(default)]
        ifname: String,
        #[serde(default)]
        addr_info: Vec<Address>,
    }
    #[derive(Deserialize)]
    struct Address {
        local: Option<Ipv4Addr>,
    }
    let links: Vec<Link> = serde_json::from_str(json)
        .map_err(|error| Error::Other(format!("failed to read the addresses that ip(8) reports: {error}")))?;
    Ok(links
        .into_iter()
        .flat_map(|link| {
            let name = link.ifname;
            link.addr_info
                .into_iter()
                .filter_map(move |info| Some((name.clone(), info.local?)))
        })
        .collect())
}

/// Makes the bridge of the cluster in `directory` with the machine's address on it; changes nothing where it is there already.
pub fn ensure_bridge(cluster: &str, subnet: Subnet, directory: &Path) -> Result<()> {
    let bridge = bridge_name(cluster);
    if !link_exists(&bridge) {
        let hardware = hardware_address(subnet.machine());
        run("ip", &["link", "add", &bridge, "address", &hardware, "type", "bridge"])?;
    }
    // Whose it is, for `sweep_bridges`. The kernel has no room for a longer one; such a bridge is never swept.
    if let Some(directory) = directory.to_str().filter(|path| path.len() < ALIAS_BYTES) {
        run("ip", &["link", "set", &bridge, "alias", directory])?;
    }
    let address = format!("{}/24", subnet.machine());
    run("ip", &["address", "replace", &address, "dev", &bridge])?;
    run("ip", &["link", "set", &bridge, "up"])?;
    accept_forwarding(&bridge)
}

/// Takes away the bridge and the rule for it; fine when they are gone already.
pub fn remove_bridge(cluster: &str) -> Result<()> {
    remove_bridge_link(&bridge_name(cluster))
}

/// Takes away bridges of clusters whose directories are gone: their owners were killed, and somebody removed the rest.
/// To be called under [`lock`].
pub fn sweep_bridges() -> Result<()> {
    let links = std::fs::read_dir(LINKS).map_err(Error::file("read", LINKS))?;
    let names = links.flatten().filter_map(|link| link.file_name().into_string().ok());
    for bridge in names.filter(|name| name.starts_with(BRIDGE_PREFIX)) {
        let alias = std::fs::read_to_string(Path::new(LINKS).join(&bridge).join("ifalias")).unwrap_or_default();
        let directory = Path::new(alias.trim_end());
        if directory.is_absolute() && !directory.exists() {
            remove_bridge_link(&bridge)?;
        }
    }
    Ok(())
}

fn remove_bridge_link(bridge: &str) -> Result<()> {
    if forwarding_is_filtered() {
        while rule("-C", bridge) && rule("-D", bridge) {}
    }
    remove_link(bridge)
}

/// Takes away a link; fine when it is gone already.
pub fn remove_link(name: &str) -> Result<()> {
    if !link_exists(name) {
        return Ok(());
    }
    match run("ip", &["link", "delete", name]) {
        Err(error) if link_exists(name) => Err(error),
        _ => Ok(()),
    }
}

pub fn link_exists(name: &str) -> bool {
    Path::new(LINKS).join(name).exists()
}

/// Gives a network namespace, named by a process in it, a link `eth0` on the cluster's bridge.
pub fn connect(bridge: &str, link: &str, pid: u32, address: Ipv4Addr) -> Result<()> {
    let (hardware, pid) = (hardware_address(address), pid.to_string());
    run(
        "ip",
        &[
            "link", "add", link, "type", "veth", "peer", "name", "eth0", "address", &hardware, "netns", &pid,
        ],
    )?;
    run("ip", &["link", "set", link, "master", bridge, "up"]).map(drop)
}

/// Whether packets that only cross a bridge pass the machine's forwarding rules at all, and whether those refuse.
fn forwarding_is_filtered() -> bool {
    let filtered = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    filtered.is_ok_and(|value| value.trim() == "1")
        && run("iptables", &["-w", "-S", "FORWARD"]).is_ok_and(|rules| rules.contains("-P FORWARD DROP"))
}

fn accept_forwarding(bridge: &str) -> Result<()> {
    if !forwarding_is_filtered() || rule("-C", bridge) {
        return Ok(());
    }
    if rule("-I", bridge) {
        return Ok(());
    }
    Err(Error::Other(format!(
        "failed to let packets cross the bridge {bridge}: this machine drops forwarded packets and refuses the rule \
         `iptables -I FORWARD -i {bridge} -o {bridge} -j ACCEPT`"
    )))
}

fn rule(operation: &str, bridge: &str) -> bool {
    run(
        "iptables",
        &["-w", operation, "FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"],
    )
    .is_ok()
}

/// Runs a program to its end and returns what it wrote; its complaint is in the error.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::spawn(program))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Exit {
        program: format!("{program} {}", args.join(" ")),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_subnet_without_a_used_address_is_free() {
        let used = ["10.77.0.1", "10.77.2.9", "192.168.1.4"].map(|text| text.parse().unwrap());
        assert_eq!(Subnet::first_free(&used).unwrap().to_string(), "10.77.1.0/24");
        let all: Vec<_> = (0..=255).map(|third| Ipv4Addr::new(10, 77, third, 1)).collect();
        assert_eq!(Subnet::first_free(&all), None);
    }

    #[test]
    fn names_fit_an_interface_and_differ() {
        assert_eq!(bridge_name("cotenant").len(), 12);
        assert_eq!(link_name("cotenant", "admin").len(), 13);
        assert_ne!(link_name("a", "b/c"), link_name("a", "b"));
        assert_eq!(hardware_address("10.77.3.16".parse().unwrap()), "02:ce:0a:4d:03:10");
    }

    #[test]
    fn a_bridge_goes_when_the_directory_of_its_cluster_is_gone_and_no_other_does() {
        let unique = |which: &str| format!("test-sweep-{which}-{}", std::process::id());
        let (kept, gone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let _lock = lock().unwrap();
        let used: Vec<_> = machine_addresses().unwrap().into_iter().map(|(_, one)| one).collect();
        let subnet = Subnet::first_free(&used).unwrap();
        ensure_bridge(&unique("kept"), subnet, kept.path()).unwrap();
        ensure_bridge(&unique("gone"), subnet, gone.path()).unwrap();
        gone.close().unwrap();

        let swept = sweep_bridges();
        let left = ["kept", "gone"].map(|which| link_exists(&bridge_name(&unique(which))));
        for which in ["kept", "gone"] {
            remove_bridge(&unique(which)).unwrap();
        }
        swept.unwrap();
        assert_eq!(left, [true, false]);
    }

    #[test]
    fn addresses_are_read_from_what_ip_reports() {
        let json = r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1"}]},{"ifname":"x"},{}]"#;
        assert_eq!(addresses_of(json).unwrap(), [("lo".to_owned(), Ipv4Addr::LOCALHOST)]);
    }
}
