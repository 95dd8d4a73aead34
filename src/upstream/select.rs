//! Which server is asked next: the group's policy among those that work, the others behind them. Pure.

use super::Policy;
use super::health::State;

/// What is known of one server when the choice is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// How often this query has tried it.
    pub(super) tries: u8,
    /// May this query try it (again)?
    pub(super) eligible: bool,
    /// Its health.
    pub(super) state: State,
    /// Tries under way, of all queries.
    pub(super) in_flight: usize,
}

/// The index of the server to ask: fewest tries, then health, then `policy`; `turn` grows by one with every query.
pub(super) fn next(policy: Policy, turn: usize, candidates: impl ExactSizeIterator<Item = Candidate>) -> Option<usize> {
    let count = candidates.len();
    candidates
        .enumerate()
        .filter(|(_, c)| c.eligible)
        .min_by_key(|&(index, c)| {
            let distance = (index + count - turn % count) % count;
            let preference = match policy {
                Policy::LeastLoaded => (c.in_flight, distance),
                Policy::Random if count > 1 => (rand::random::<u32>() as usize, 0),
                Policy::Random => (0, 0),
                Policy::RoundRobin => (distance, 0),
                Policy::Sequential => (index, 0),
            };
            (c.tries, c.state, preference)
        })
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Candidate = Candidate { tries: 0, eligible: true, state: State::Healthy, in_flight: 0 };

    fn choose(policy: Policy, turn: usize, candidates: &[Candidate]) -> Option<usize> {
        next(policy, turn, candidates.iter().copied())
    }

    #[test]
    fn each_policy_chooses_among_equals_as_it_is_called() {
        let three = [FRESH; 3];
        let turns = |policy| (0..6).map(|turn| choose(policy, turn, &three).unwrap()).collect::<Vec<_>>();
        assert_eq!(turns(Policy::RoundRobin), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(Policy::LeastLoaded), [0, 1, 2, 0, 1, 2], "ties take turns");
        assert_eq!(turns(Policy::Sequential), [0; 6]);
        let drawn: Vec<_> = (0..200).map(|turn| choose(Policy::Random, turn, &three).unwrap()).collect();
        assert!((0..3).all(|index| drawn.contains(&index)));
    }

    #[test]
    fn the_least_loaded_is_the_one_with_the_fewest_in_flight() {
        let loaded = |in_flight| Candidate { in_flight, ..FRESH };
        assert_eq!(choose(Policy::LeastLoaded, 0, &[loaded(3), loaded(1), loaded(2)]), Some(1));
    }

    #[test]
    fn what_fails_comes_last_and_what_fails_most_comes_after_it() {
        let failing = |n| Candidate { state: State::Failing(n), ..FRESH };
        for policy in [Policy::LeastLoaded, Policy::Random, Policy::RoundRobin, Policy::Sequential] {
            let busy = Candidate { in_flight: 99, ..FRESH };
            assert_eq!(choose(policy, 0, &[failing(1), failing(2), busy]), Some(2), "{policy:?}");
            assert_eq!(choose(policy, 0, &[failing(3), failing(2)]), Some(1), "{policy:?}: all down, still asked");
            let suspect = Candidate { state: State::Suspect, ..FRESH };
            assert_eq!(choose(policy, 1, &[failing(1), suspect]), Some(1), "{policy:?}");
            assert_eq!(choose(policy, 0, &[suspect, busy]), Some(1), "{policy:?}: it is probed beside");
            let erring = Candidate { state: State::Erring, ..FRESH };
            assert_eq!(choose(policy, 0, &[suspect, erring]), Some(1), "{policy:?}: it answers at least");
            assert_eq!(choose(policy, 0, &[erring, busy]), Some(1), "{policy:?}");
        }
    }

    #[test]
    fn what_this_query_has_tried_comes_after_what_it_has_not() {
        let tried = |tries| Candidate { tries, ..FRESH };
        let barred = Candidate { eligible: false, ..FRESH };
        assert_eq!(choose(Policy::Sequential, 0, &[tried(1), tried(0)]), Some(1));
        assert_eq!(choose(Policy::Sequential, 0, &[barred, tried(2)]), Some(1));
        assert_eq!(choose(Policy::Sequential, 0, &[barred]), None);
        assert_eq!(choose(Policy::LeastLoaded, 7, &[]), None);
    }
}
