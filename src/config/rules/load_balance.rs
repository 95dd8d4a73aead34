//! `zones[].loadBalance`: in which order the addresses of an answer are given.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::check::Check;
use crate::config::limits;
use crate::config::text::{Span, Text};

/// Which address comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum BalancePolicy {
    /// Any: all are shuffled.
    #[default]
    RoundRobin,
    /// Any, those of a greater weight more often.
    Weighted,
}

/// In which order the addresses of an answer are given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Written {
    /// Which comes first. Default: round-robin.
    policy: Option<BalancePolicy>,
    /// With policy weighted: the file with the weights; a line with a name, then lines of an address and its weight.
    file: Option<String>,
    /// How often that file is looked at, at most 1d; 0s for once. Default: 30s.
    reload: Option<Text<Span>>,
    /// Networks whose addresses come before all others, in this order.
    prefer: Option<Vec<Text<IpNet>>>,
}

/// In which order the addresses of an answer are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalance {
    /// Where the weights stand; `None` when all are equal.
    pub weights: Option<Weights>,
    /// Networks whose addresses come first, in this order.
    pub prefer: Vec<IpNet>,
}

/// Where weights stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The file; absolute.
    pub file: PathBuf,
    /// How often it is looked at; zero for once.
    pub reload: Duration,
}

impl Check<'_> {
    /// The meaning of `key`, a zone's loadBalance.
    pub(in crate::config) fn load_balance(&mut self, given: &Written, key: &str) -> LoadBalance {
        let weighted = given.policy == Some(BalancePolicy::Weighted);
        let at = format!("{key}.file");
        match &given.file {
            None if weighted => self.problem(key, "\"file\" is missing: policy weighted takes its weights from it"),
            Some(_) if !weighted => self.problem(&at, "has no effect: weights are used with policy weighted alone"),
            Some(file) if !file.starts_with('/') || file.ends_with('/') => {
                self.problem(&at, "must be the absolute path of a file, such as /etc/nodens/weights");
            }
            _ => {}
        }
        let at = format!("{key}.reload");
        let reload = self.span(&given.reload, limits::WEIGHTS_RELOAD, limits::WEIGHTS_RELOAD.default, &at);
        if given.reload.is_some() && given.file.is_none() && !weighted {
            self.problem(&at, "has no effect without a file of weights");
        }
        let weights = given.file.as_ref().filter(|_| weighted).map(|file| Weights { file: file.into(), reload });
        let mut prefer: Vec<IpNet> = given.prefer.iter().flatten().map(|Text(network)| *network).collect();
        self.at_most(&mut prefer, limits::MAX_NETWORKS, &format!("{key}.prefer"));
        LoadBalance { weights, prefer }
    }
}
