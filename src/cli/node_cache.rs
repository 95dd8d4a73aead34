//! `nodens node-cache`, also when the program is called `node-cache`: its flags, its files, its signals.
//!
//! The grammar of the flags is Go's, which clap does not speak: they are read in `config::node_cache::flags`.

use super::{Error, Outcome, output};
use crate::app;
use crate::config::node_cache::flags::{self, Wanted};
use crate::config::node_cache::{Flags, NodeCache, Over};
use crate::config::{Overrides, Source};
use crate::sys::{memory, signal};
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// What the program, or its first argument, is called then.
const NAME: &str = "node-cache";

/// Arguments of `node-cache`.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = "The flags are node-cache's own: nodens node-cache -help. A program called node-cache takes them at once."
)]
pub struct Args {
    /// node-cache's flags.
    #[arg(value_name = "FLAG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub flags: Vec<OsString>,
}

/// The flags of a command line (the program's name first) that means this command, which clap must not see.
pub fn flags_of(arguments: &[OsString]) -> Option<&[OsString]> {
    let (program, rest) = arguments.split_first()?;
    let is_first = rest.first().is_some_and(|argument| argument == NAME);
    let is_called_so = Path::new(program).file_name() == Some(OsStr::new(NAME));
    // What has no dash is a command: an image has one entry point, which has to serve manifests of both.
    let is_flags = rest.first().is_none_or(|argument| argument.as_encoded_bytes().starts_with(b"-"));
    // A guardian starts its server by the name of the command, whatever the program is called.
    if is_first { rest.get(1..) } else { (is_called_so && is_flags).then_some(rest) }
}

/// Does what the flags say.
pub fn run(args: &[OsString]) -> Result<Outcome, Error> {
    match flags::read(args)? {
        Wanted::Usage(text) => output::print(&text)?,
        Wanted::Version => output::print(concat!("nodens ", env!("CARGO_PKG_VERSION"), "\n"))?,
        Wanted::Plugins => output::print(&flags::plugins())?,
        Wanted::Serve(flags) => serve(*flags, args)?,
        Wanted::Supervised { flags, descriptors, saved_since } => {
            let since = saved_since.map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
            let (source, overrides) = sources(*flags, args);
            app::supervised::run(descriptors, since, Some(source), overrides)?;
        }
    }
    Ok(Outcome::Success)
}

fn serve(flags: Flags, args: &[OsString]) -> Result<(), Error> {
    // Until they are heard they are to do nothing, as node-cache's first one.
    signal::ignore(&[Signal::HUP, Signal::USR1, Signal::USR2]);
    let (source, overrides) = sources(flags, args);
    let loaded = source.load(&overrides)?;
    for warning in &loaded.warnings.0 {
        output::warn(&warning.to_string());
    }
    app::serve(loaded, overrides)?;
    Ok(())
}

/// What is read, and what is laid over it.
fn sources(flags: Flags, args: &[OsString]) -> (Source, Overrides) {
    let sources = NodeCache::new(&flags, |name| std::env::var(name).ok());
    // The end of the flags is for us alone: more will follow.
    let arguments = args.iter().filter(|argument| *argument != "--").cloned().collect();
    let over = Over { flags, arguments, memory: memory::limit() };
    (Source::NodeCache(Arc::new(sources)), Overrides { node_cache: Some(Arc::new(over)), ..Overrides::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_known_by_either_name() {
        let of = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            flags_of(&arguments).map(|flags| flags.iter().map(|f| f.to_string_lossy().into_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of("nodens node-cache -p 53").unwrap(), ["-p", "53"]);
        assert_eq!(of("/node-cache -p 53").unwrap(), ["-p", "53"]);
        assert_eq!(of("/node-cache node-cache -p 53").unwrap(), ["-p", "53"], "as a guardian starts it");
        assert_eq!(of("node-cache").unwrap(), [""; 0]);
        assert_eq!(of("nodens serve"), None);
        assert_eq!(of("/node-cache serve --config /etc/nodens/nodens.yaml"), None, "as our manifests say it");
        assert_eq!(of("nodens serve node-cache"), None);
    }
}
