//! Where a configuration comes from: a file, or what node-cache makes of several.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::load::{Loaded, Overrides, load};
use crate::config::node_cache::NodeCache;
use crate::config::problem::Problems;

/// Where a configuration comes from, each time it is read.
#[derive(Clone, Debug)]
pub enum Source {
    /// One file, and what that imports.
    File(PathBuf),
    /// A Corefile with variables, and a ConfigMap.
    NodeCache(Arc<NodeCache>),
}

impl Source {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, Problems> {
        match self {
            Source::File(path) => load(Some(path), overrides),
            Source::NodeCache(sources) => {
                let loaded = sources.load(overrides)?;
                Ok(Loaded { source: Some(self.clone()), ..loaded })
            }
        }
    }

    /// The file without which there is no configuration.
    pub fn file(&self) -> &Path {
        match self {
            Source::File(path) => path,
            Source::NodeCache(sources) => sources.file(),
        }
    }

    /// A folder whose files belong to it, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Source::File(_) => None,
            Source::NodeCache(sources) => sources.folder(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file().display().fmt(f)
    }
}
