//! What the configuration says of the cache: for all names, and for those of one zone over that.

use std::path::{Component, Path, PathBuf};

use super::Check;
use crate::config::address::Name;
use crate::config::file::{self, TtlRange};
use crate::config::limits;
use crate::config::text::{Percent, Size, Span, Text};
use crate::config::{Cache, Keep, Persist, Prefetch, ServeStale, Ttls};

/// What holds for the answers of one zone.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Their lifetimes.
    pub(super) ttls: Ttls,
    /// Whether they are given out stale, and how if so.
    stale: (bool, ServeStale),
    /// Whether they are renewed early, and which if so.
    prefetch: (bool, Prefetch),
}

impl Rules {
    /// What holds when nothing is written.
    const DEFAULT: Rules = Rules {
        ttls: Ttls {
            positive_min: limits::MIN_TTL.default,
            positive_max: limits::POSITIVE_MAX_TTL.default,
            negative_min: limits::MIN_TTL.default,
            negative_max: limits::NEGATIVE_MAX_TTL.default,
            failure: limits::FAILURE_TTL.default,
        },
        stale: (
            true,
            ServeStale {
                max_age: limits::STALE_MAX_AGE.default,
                answer_ttl: limits::STALE_ANSWER_TTL.default,
                client_wait: limits::CLIENT_WAIT.default,
                recheck: limits::RECHECK.default,
                prefer_positive: false,
            },
        ),
        prefetch: (
            true,
            Prefetch { min_hits: limits::MIN_HITS.default as u8, remaining: limits::REMAINING.default as u8 },
        ),
    };

    /// How they are given out stale, if they are.
    pub(super) fn serve_stale(&self) -> Option<ServeStale> {
        self.stale.0.then_some(self.stale.1)
    }

    /// Which are renewed early, if any.
    pub(super) fn prefetch(&self) -> Option<Prefetch> {
        self.prefetch.0.then_some(self.prefetch.1)
    }
}

/// Which answers of a zone are kept.
pub(super) fn keep(given: &file::ZoneCache) -> Keep {
    let names = |list: &Option<Vec<Text<Name>>>| list.iter().flatten().map(|text| text.0.0.clone()).collect();
    Keep {
        enabled: given.enabled.unwrap_or(true),
        only: names(&given.only),
        never_positive: names(&given.positive.never),
        never_negative: names(&given.negative.never),
        whole_ttl: given.keep_ttl.unwrap_or(false),
    }
}

impl Check<'_> {
    /// The cache itself.
    pub(super) fn cache(&mut self, given: &file::Cache) -> Cache {
        Cache { max_bytes: self.max_bytes(given), persist: self.persist(given.persist.as_ref()) }
    }

    /// What is written at the top level, over the defaults.
    pub(super) fn rules(&mut self, given: &file::Cache) -> Rules {
        let base = Rules::DEFAULT;
        Rules {
            ttls: self.ttls(base.ttls, (&given.positive, &given.negative), &given.failure_ttl, "cache"),
            stale: self.serve_stale(base.stale, &given.serve_stale, "cache.serveStale"),
            prefetch: self.prefetch(base.prefetch, &given.prefetch, "cache.prefetch"),
        }
    }

    /// What is written of one zone under `key`, over `base`.
    pub(super) fn zone_rules(&mut self, base: Rules, given: &file::ZoneCache, key: &str) -> Rules {
        Rules {
            ttls: self.ttls(base.ttls, (&given.positive.range(), &given.negative.range()), &given.failure_ttl, key),
            stale: self.serve_stale(base.stale, &given.serve_stale, &format!("{key}.serveStale")),
            prefetch: self.prefetch(base.prefetch, &given.prefetch, &format!("{key}.prefetch")),
        }
    }

    fn serve_stale(&mut self, base: (bool, ServeStale), given: &file::ServeStale, key: &str) -> (bool, ServeStale) {
        let (enabled, base) = (given.enabled.unwrap_or(base.0), base.1);
        let at = |name: &str| format!("{key}.{name}");
        let rule = ServeStale {
            max_age: self.span(&given.max_age, limits::STALE_MAX_AGE, base.max_age, &at("maxAge")),
            answer_ttl: self.span(&given.answer_ttl, limits::STALE_ANSWER_TTL, base.answer_ttl, &at("answerTtl")),
            client_wait: self.span(&given.client_wait, limits::CLIENT_WAIT, base.client_wait, &at("clientWait")),
            recheck: self.span(&given.recheck, limits::RECHECK, base.recheck, &at("recheck")),
            prefer_positive: given.prefer_positive.unwrap_or(base.prefer_positive),
        };
        (enabled, rule)
    }

    fn prefetch(&mut self, base: (bool, Prefetch), given: &file::Prefetch, key: &str) -> (bool, Prefetch) {
        let (enabled, base) = (given.enabled.unwrap_or(base.0), base.1);
        let remaining = given.remaining.as_ref().map_or(u64::from(base.remaining), |text| text.0.0);
        let fits = self.within(remaining, limits::REMAINING, |n| Percent(*n).to_string(), &format!("{key}.remaining"));
        let rule = Prefetch {
            min_hits: given.min_hits.and_then(|n| u8::try_from(n).ok()).unwrap_or(base.min_hits),
            remaining: if fits { remaining as u8 } else { base.remaining },
        };
        (enabled, rule)
    }

    fn persist(&mut self, given: Option<&file::Persist>) -> Option<Persist> {
        const KEY: &str = "cache.persist";
        let given = given?;
        let text = given.path.clone().unwrap_or_default();
        let path = PathBuf::from(&text);
        let is_file = path.is_absolute() && path.file_name().is_some() && !text.ends_with('/');
        if given.path.is_some() && !is_file {
            let message = "must be the absolute path of a file, such as /var/lib/nodens/cache.bin";
            self.problem(&format!("{KEY}.path"), message);
        } else if path.parent() == Some(Path::new("/")) || path.components().any(|part| part == Component::ParentDir) {
            let message = "must be in a folder of its own: in all that is below it the server may write";
            self.problem(&format!("{KEY}.path"), message);
        }
        let at = format!("{KEY}.interval");
        let interval = self.span(&given.interval, limits::PERSIST_INTERVAL, limits::PERSIST_INTERVAL.default, &at);
        Some(Persist { path, interval })
    }

    fn max_bytes(&mut self, given: &file::Cache) -> u64 {
        let bytes = given.max_bytes.as_ref().map_or(limits::MAX_BYTES.default, |text| text.0.0);
        self.within(bytes, limits::MAX_BYTES, |n| Size(*n).to_string(), "cache.maxBytes");
        bytes
    }

    /// Lifetimes written under `key` over those of `base`.
    fn ttls(
        &mut self,
        base: Ttls,
        (positive, negative): (&TtlRange, &TtlRange),
        failure: &Option<Text<Span>>,
        key: &str,
    ) -> Ttls {
        let at = |name: &str| format!("{key}.{name}");
        let ttls = Ttls {
            positive_min: self.span(&positive.min_ttl, limits::MIN_TTL, base.positive_min, &at("positive.minTtl")),
            positive_max: self.span(
                &positive.max_ttl,
                limits::POSITIVE_MAX_TTL,
                base.positive_max,
                &at("positive.maxTtl"),
            ),
            negative_min: self.span(&negative.min_ttl, limits::MIN_TTL, base.negative_min, &at("negative.minTtl")),
            negative_max: self.span(
                &negative.max_ttl,
                limits::NEGATIVE_MAX_TTL,
                base.negative_max,
                &at("negative.maxTtl"),
            ),
            failure: self.span(failure, limits::FAILURE_TTL, base.failure, &at("failureTtl")),
        };
        let ordered = [
            (positive, "positive", ttls.positive_min, ttls.positive_max),
            (negative, "negative", ttls.negative_min, ttls.negative_max),
        ];
        for (given, name, min, max) in ordered {
            // The global pair is judged where it stands, not again in every zone.
            if min > max && (given.min_ttl.is_some() || given.max_ttl.is_some()) {
                let (min, max) = (Span(min), Span(max));
                self.problem(&at(name), format!("minTtl {min} is above maxTtl {max}"));
            }
        }
        ttls
    }
}
