//! The file of weights: a line with a name, then a line for each of its addresses, with its weight from 1 to 255. Lines
//! that begin with `#` and empty ones say nothing. An address that is not there weighs 1.

use crate::wire::presentation;
use std::collections::HashMap;
use std::net::IpAddr;

/// The weights of the addresses of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights(HashMap<Vec<u8>, Vec<(IpAddr, u8)>, foldhash::fast::RandomState>);

/// A file of weights that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWeights {
    /// A line that is neither.
    #[error("line {0}: {1:?} is neither a name nor an address and its weight")]
    Line(usize, String),
    /// An address where a name stands otherwise.
    #[error("line {0}: {1} has no weight; write a number from 1 to 255 behind it")]
    Missing(usize, IpAddr),
    /// What should be a name.
    #[error("line {0}: {1:?} is not a domain name")]
    Name(usize, String),
    /// What should be an address.
    #[error("line {0}: {1:?} is not an IP address")]
    Address(usize, String),
    /// What should be a weight.
    #[error("line {0}: {1:?} is not a weight; it must be between 1 and 255")]
    Weight(usize, String),
    /// An address before any name.
    #[error("line {0}: no name stands before this address; write whose address it is on a line above")]
    Nameless(usize),
}

impl Weights {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn read(text: &str) -> Result<Weights, InvalidWeights> {
        let mut weights = Weights::default();
        let mut name = None;
        for (n, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [word] => {
                    if let Ok(address) = word.parse() {
                        return Err(InvalidWeights::Missing(n, address));
                    }
                    let lower = presentation::name(&word.to_ascii_lowercase());
                    name = Some(lower.map_err(|_| InvalidWeights::Name(n, word.into()))?);
                }
                [address, weight] => {
                    let known = address.parse().map_err(|_| InvalidWeights::Address(n, address.into()))?;
                    let weight = weight.parse().ok().filter(|&weight| weight > 0);
                    let weight = weight.ok_or_else(|| InvalidWeights::Weight(n, line.into()))?;
                    let name = name.clone().ok_or(InvalidWeights::Nameless(n))?;
                    weights.0.entry(name).or_default().push((known, weight));
                }
                _ => return Err(InvalidWeights::Line(n, line.into())),
            }
        }
        Ok(weights)
    }

    /// The weight of an address of `name`, a wire name in any case.
    pub(super) fn of(&self, name: &[u8], address: IpAddr) -> u8 {
        let known = self.0.get(&name.to_ascii_lowercase());
        known.and_then(|known| known.iter().find(|(other, _)| *other == address)).map_or(1, |(_, weight)| *weight)
    }
}
