//! Tables for the keys of this folder.

pub(super) mod altering;
