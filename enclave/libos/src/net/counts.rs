//! What the protocols have done so far, as /proc/net/snmp shows it.
//!
//! Neighbours: `tcp` and `udp` count, `fs::proc` shows. Connections and datagrams are counted; there are no segments inside.
use occlum_rt::bkl::BklCell;

/// One of the counters.
#[derive(Clone, Copy)]
pub enum Count {
    /// Connections that were asked for.
    TcpActiveOpens,
    /// Connections that listeners got.
    TcpPassiveOpens,
    /// Connections that did not come about.
    TcpAttemptFails,
    /// Connections that the other end tore.
    TcpEstabResets,
    /// Datagrams that arrived.
    UdpInDatagrams,
    /// Datagrams to a port that nobody has.
    UdpNoPorts,
    /// Datagrams that found a full queue.
    UdpRcvbufErrors,
    /// Datagrams that were sent.
    UdpOutDatagrams,
}

static COUNTS: BklCell<[u64; 8]> = BklCell::new([0; 8]);

/// One more.
pub fn count(what: Count) {
    COUNTS.with_mut(|c| c[what as usize] += 1);
}
/// How many so far.
pub fn of(what: Count) -> u64 {
    COUNTS.with(|c| c[what as usize])
}
