//! nodens: a NodeLocal DNS caching daemon for Kubernetes.

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod observe;
pub mod resolve;
pub mod serve;
pub mod sys;
pub mod upstream;
pub mod wire;
