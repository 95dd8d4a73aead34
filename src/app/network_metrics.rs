//! What the guardian says of the node's network, put on the metrics page and into readiness.
//!
//! A server without a guardian has none of this: nothing is made of the network then.

use crate::admin::ready::Condition;
use crate::guardian::control::State;
use crate::guardian::ending::Reason;
use crate::network::host::REPAIRED;
use crate::observe::coredns::SetupError;
use crate::observe::metrics::Metrics;
use crate::observe::queries::{Family, Label};
use crate::observe::sink::FamilySink;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The last state that the guardian told, for scrapes and readiness.
pub(super) struct Network {
    state: Arc<Mutex<Option<State>>>,
    condition: Condition,
}

impl Network {
    /// Has every scrape of `metrics` read the state, and `condition` follow it.
    pub(super) fn new(metrics: &Metrics, condition: Condition) -> Network {
        let state = Arc::new(Mutex::new(None));
        let read = Arc::clone(&state);
        let coredns_names = metrics.coredns().is_some();
        metrics.register(Box::new(move |sink| {
            if let Some(state) = &*read.lock().unwrap_or_else(PoisonError::into_inner) {
                report(sink, state);
                if coredns_names {
                    coredns(sink, state);
                }
            }
        }));
        condition.set(false, "the guardian has not said yet");
        Network { state, condition }
    }

    /// Takes over what the guardian says.
    pub(super) fn set(&self, state: State) {
        let (holds, reason) = verdict(&state);
        self.condition.set(holds, reason);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }
}

/// Do queries come here as they should, and why (not)?
fn verdict(state: &State) -> (bool, String) {
    let interface = state.network.interface.is_none() || state.network.interface_up;
    let holds = interface && (state.network.notrack || state.network.firewall == "none");
    let reason = match &state.network.interface {
        _ if !state.network.problem.is_empty() => state.network.problem.clone(),
        Some((name, _)) if !interface => format!("interface {name} is not up with all its addresses"),
        _ if !holds => "packets do not skip connection tracking yet".to_owned(),
        Some((name, kind)) => format!("{name} ({kind}), firewall {}", state.network.firewall),
        None => format!("interface not managed, firewall {}", state.network.firewall),
    };
    (holds, reason)
}

fn report(sink: &mut FamilySink, state: &State) {
    let truth = |holds: bool| f64::from(u8::from(holds));
    if let Some((interface, kind)) = &state.network.interface {
        let help = "Is the interface there with all its addresses? 1 or 0.";
        let labels = [("interface", &**interface), ("kind", &**kind)];
        sink.gauge("nodens_interface_up", help, &labels, truth(state.network.interface_up));
    }
    let help = "Do packets for us skip connection tracking? 1 or 0.";
    sink.gauge("nodens_notrack_active", help, &[("firewall", &state.network.firewall)], truth(state.network.notrack));
    let v4 = state.network.endpoints.iter().filter(|endpoint| endpoint.is_ipv4()).count();
    for (family, n) in [(Family::V4.name(), v4), (Family::V6.name(), state.network.endpoints.len() - v4)] {
        let help = "Servers that answer when nodens does not.";
        sink.gauge("nodens_failopen_endpoints", help, &[("family", family)], n as f64);
    }
    for chain in &state.network.dropping {
        let help = "Filter chains of others whose policy drops untracked packets; 1 for each.";
        sink.gauge("nodens_network_filter_drops", help, &[("chain", chain)], 1.0);
    }
    let help = "What others had removed from the network and was put back.";
    counts(sink, "nodens_network_repairs_total", help, "what", &REPAIRED, &state.network.repairs);
    let help = "Servers that the guardian had to replace.";
    counts(sink, "nodens_server_restarts_total", help, "reason", &Reason::ALL.map(Reason::name), &state.restarts);
    let help = "Failures while setting up the network, by node-cache's names.";
    let name = "coredns_nodecache_setup_errors_total";
    let known: Vec<&str> = SetupError::ALL.iter().map(|error| error.name()).collect();
    counts(sink, name, help, "errortype", &known, &state.network.setup_errors);
}

/// The same by the names of CoreDNS, or that node-cache has given up.
fn coredns(sink: &mut FamilySink, state: &State) {
    let panics = state.restarts.get(Reason::Panic.name()).copied().unwrap_or_default();
    for name in ["coredns_panics_total", "coredns_panic_count_total"] {
        sink.counter(name, "Servers that a panic ended.", &[], panics);
    }
    let help = "Failures while setting up the network, under the name that node-cache had for it until 2020.";
    counts(sink, "coredns_nodecache_setup_errors", help, "errortype", &[], &state.network.setup_errors);
}

/// One counter for each of `known`, at 0 if need be, and for whatever else was counted.
fn counts(
    sink: &mut FamilySink,
    name: &'static str,
    help: &'static str,
    label: &'static str,
    known: &[&str],
    counted: &BTreeMap<String, u64>,
) {
    // Samples of the same labels are added up.
    let zeros = known.iter().map(|&value| (value, 0));
    for (value, n) in zeros.chain(counted.iter().map(|(value, &n)| (&**value, n))) {
        sink.counter(name, help, &[(label, value)], n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ready::Readiness;
    use crate::network::host::Status;
    use crate::sys::clock::Clock;

    fn good() -> State {
        let network = Status {
            interface: Some(("nodelocaldns".to_owned(), "tun".to_owned())),
            interface_up: true,
            firewall: "nftables".to_owned(),
            notrack: true,
            endpoints: ["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"].map(|a| a.parse().unwrap()).to_vec(),
            ..Status::default()
        };
        State { network, ..State::default() }
    }

    #[test]
    fn readiness_asks_for_the_interface_and_for_rules_where_they_are_wanted() {
        let told = |change: fn(&mut State)| {
            let mut state = good();
            change(&mut state);
            verdict(&state)
        };
        let is = |holds: bool, reason: &str| (holds, reason.to_owned());
        assert_eq!(told(|_| ()), is(true, "nodelocaldns (tun), firewall nftables"));
        assert_eq!(told(|s| s.network.notrack = false), is(false, "packets do not skip connection tracking yet"));
        let down = is(false, "interface nodelocaldns is not up with all its addresses");
        assert_eq!(told(|s| s.network.interface_up = false), down);
        let none = |s: &mut State| (s.network.notrack, s.network.firewall) = (false, "none".to_owned());
        let mut state = good();
        none(&mut state);
        assert_eq!(verdict(&state), is(true, "nodelocaldns (tun), firewall none"));
        state.network.interface_up = false;
        assert_eq!(verdict(&state), down);
        state.network.interface = None;
        assert_eq!(verdict(&state), is(true, "interface not managed, firewall none"));
        let problem =
            told(|s| (s.network.notrack, s.network.problem) = (false, "cannot write rules: denied".to_owned()));
        assert_eq!(problem, is(false, "cannot write rules: denied"));
        let odd = told(|s| s.network.problem = "a filter chain drops".to_owned());
        assert_eq!(odd, is(true, "a filter chain drops"), "odd, but it works");
    }

    #[tokio::test]
    async fn the_condition_and_the_page_follow_the_state() {
        let (readiness, metrics) = (Readiness::new(Clock::System), Metrics::new());
        let network = Network::new(&metrics, readiness.register("network"));
        assert!(!readiness.report().await.ready());
        assert!(!metrics.gather().contains("nodens_notrack_active"));
        let mut state = good();
        state.network.dropping = vec!["ip filter INPUT".to_owned()];
        state.network.repairs = [("rules".to_owned(), 3)].into();
        state.restarts = [("hang".to_owned(), 1)].into();
        state.network.setup_errors = [("iptables_lock".to_owned(), 2)].into();
        network.set(state);
        assert!(readiness.report().await.ready());
        let page = metrics.gather();
        for line in [
            "nodens_interface_up{interface=\"nodelocaldns\",kind=\"tun\"} 1",
            "nodens_notrack_active{firewall=\"nftables\"} 1",
            "nodens_failopen_endpoints{family=\"ipv4\"} 2",
            "nodens_failopen_endpoints{family=\"ipv6\"} 1",
            "nodens_network_filter_drops{chain=\"ip filter INPUT\"} 1",
            "nodens_network_repairs_total{what=\"address\"} 0",
            "nodens_network_repairs_total{what=\"fallback\"} 0",
            "nodens_network_repairs_total{what=\"interface\"} 0",
            "nodens_network_repairs_total{what=\"rules\"} 3",
            "nodens_server_restarts_total{reason=\"exit\"} 0",
            "nodens_server_restarts_total{reason=\"hang\"} 1",
            "nodens_server_restarts_total{reason=\"oom\"} 0",
            "nodens_server_restarts_total{reason=\"panic\"} 0",
            "nodens_server_restarts_total{reason=\"signal\"} 0",
            "coredns_nodecache_setup_errors_total{errortype=\"configmap\"} 0",
            "coredns_nodecache_setup_errors_total{errortype=\"interface_add\"} 0",
            "coredns_nodecache_setup_errors_total{errortype=\"interface_check\"} 0",
            "coredns_nodecache_setup_errors_total{errortype=\"iptables\"} 0",
            "coredns_nodecache_setup_errors_total{errortype=\"iptables_lock\"} 2",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
        let mut state = good();
        state.network.notrack = false;
        network.set(state);
        assert!(!readiness.report().await.ready());
        assert!(metrics.gather().contains("nodens_notrack_active{firewall=\"nftables\"} 0"));
    }
}
