//! Views: which zones are there for whom, by the listen address that is asked.
//!
//! Addresses with the same zones are one view, and share all that is cached. Nearly every configuration has one.

use std::net::SocketAddr;

use crate::config::Config;

/// Listen addresses with the same zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The addresses.
    pub places: Vec<SocketAddr>,
    /// The zones, as places in [`Config::zones`].
    pub zones: Vec<usize>,
}

impl Config {
    /// All views, in the order of the listen addresses.
    pub fn views(&self) -> Vec<View> {
        let mut views: Vec<View> = Vec::new();
        for &place in &self.listen.addresses {
            let is_there =
                |at: &usize| self.zones.get(*at).is_some_and(|z| z.listen.is_empty() || z.listen.contains(&place));
            let zones: Vec<usize> = (0..self.zones.len()).filter(is_there).collect();
            match views.iter_mut().find(|view| view.zones == zones) {
                Some(view) => view.places.push(place),
                None => views.push(View { places: vec![place], zones }),
            }
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load_str;

    #[test]
    fn addresses_with_the_same_zones_are_one_view() {
        let zone =
            |name: &str, listen: &str| format!("  - {{ match: [{name}], forward: {{ to: [1.1.1.1] }}{listen} }}\n");
        let views = |zones: &[String]| {
            let text =
                format!("listen: {{ addresses: [10.0.0.1, 10.0.0.2, \"10.0.0.3:54\"] }}\nzones:\n{}", zones.concat());
            let config = load_str("test", &text).unwrap().config;
            let views = config.views();
            views
                .into_iter()
                .map(|v| (v.places.iter().map(ToString::to_string).collect::<Vec<_>>(), v.zones))
                .collect::<Vec<_>>()
        };
        let (a, b, c) = ("10.0.0.1:53".to_owned(), "10.0.0.2:53".to_owned(), "10.0.0.3:54".to_owned());
        let all = vec![a.clone(), b.clone(), c.clone()];
        assert_eq!(views(&[zone(".", ""), zone("a", "")]), [(all, vec![0, 1])]);
        assert_eq!(
            views(&[
                zone(".", ", listen: [10.0.0.1, \"10.0.0.3:54\"]"),
                zone(".", ", listen: [10.0.0.2]"),
                zone("a", "")
            ]),
            [(vec![a, c], vec![0, 2]), (vec![b], vec![1, 2])]
        );
    }

    #[test]
    fn a_name_stands_once_in_each_view() {
        let text = "listen: { addresses: [10.0.0.1, 10.0.0.2] }
zones:
  - { match: [.], listen: [10.0.0.1], forward: { to: [1.1.1.1] } }
  - { match: [.], listen: [10.0.0.2, 10.0.0.9], forward: { to: [1.1.1.1] } }
  - { match: [., b], listen: [10.0.0.2:53], forward: { to: [1.1.1.1] } }
  - { match: [b], listen: [], forward: { to: [1.1.1.1] } }
";
        let problems = load_str("test", text).unwrap_err().to_string();
        let expected = "test:4:38: zones[1].listen[1]: 10.0.0.9:53 is not among listen.addresses
test:5:15: zones[2].match[0]: \".\" is matched already (zones[1].match[0], line 4)
test:6:15: zones[3].match[0]: \"b\" is matched already (zones[2].match[1], line 5)
test:6:19: zones[3].listen: an empty list: no query would come to the zone";
        assert_eq!(problems, expected);
    }
}
