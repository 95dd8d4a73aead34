//! The cache over a restart (E17, G9), by the binary alone: what was asked before is not asked again, and no disk, however
//! full, slow or broken, costs a query.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::rr::RecordType;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::netns::{isolated, run};
use support::process::can_run;
use support::server::{Server, forward};
use support::upstream::Upstream;
use support::{addresses, nxdomain, query};
use tempfile::TempDir;

const A: RecordType = RecordType::A;

/// One address for every name, and none for those that begin with `none`.
fn upstream() -> Upstream {
    Upstream::start(|q| match q.name() {
        name if name.starts_with("none") => nxdomain(&q.message(), "example.", 300).into(),
        _ => addresses(&q.message(), 1, 300).into(),
    })
}

/// Where the cache is kept.
struct Kept {
    folder: TempDir,
    upstream: Upstream,
}

impl Kept {
    fn new() -> Kept {
        Kept { folder: tempfile::tempdir().unwrap(), upstream: upstream() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn config(&self, interval: &str) -> String {
        let long = "positive: { maxTtl: 1h }, negative: { maxTtl: 1h }";
        let persist = format!("persist: {{ path: {}, interval: {interval} }}", self.file().display());
        format!("{}cache: {{ {long}, {persist} }}\n", forward(self.upstream.address()))
    }

    /// Starts a server that saves so often.
    fn start(&self, interval: &str) -> Server {
        Server::start(&self.config(interval))
    }

    /// How often the upstream was asked for `name`.
    fn asked(&self, name: &str) -> usize {
        self.upstream.asked_for(name).len()
    }
}

fn ask(server: &Server, name: &str) {
    let reply = server.udp(&query(name, A));
    assert_eq!(reply.answers.len(), usize::from(!name.starts_with("none")), "{name}");
}

fn saves(server: &Server, outcome: &str) -> f64 {
    server.metric("nodens_persist_saves_total", outcome)
}

fn stop(server: Server) -> String {
    server.signal("TERM");
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    log
}

fn kill(server: Server) {
    server.signal("KILL");
    server.wait();
}

#[test]
fn e17_a_restart_keeps_the_answers() {
    let kept = Kept::new();
    let names: Vec<String> = (0..50).flat_map(|n| [format!("n{n}.example."), format!("none{n}.example.")]).collect();
    let mut server = kept.start("1d");
    server.until_logged("there is no saved cache yet");
    names.iter().for_each(|name| ask(&server, name));
    stop(server);
    let mut server = kept.start("1d");
    names.iter().for_each(|name| ask(&server, name));
    for name in &names {
        assert_eq!(kept.asked(name), 1, "{name}");
    }
    assert_eq!(server.metric("nodens_persist_entries", "loaded"), 100.0);
    assert_eq!(server.metric("nodens_cache_entries", ""), 100.0);
    assert_eq!(server.metric("nodens_cache_misses_total", ""), 0.0);
    let ttl = |server: &Server| server.tcp(&query("n0.example.", A)).answers[0].ttl;
    server.until("it has grown older", |server| (200..300).contains(&ttl(server)));
    assert!(server.metric("nodens_cache_hits_total", "zone=\".\"") >= 100.0, "by their zone");
}

#[test]
fn e17_after_a_kill_there_is_what_was_saved_last() {
    let kept = Kept::new();
    let mut server = kept.start("1s");
    ask(&server, "a.example.");
    server.until("it is saved", |server| server.metric("nodens_persist_entries", "saved") == 1.0);
    kill(server);
    let server = kept.start("1d");
    ask(&server, "a.example.");
    assert_eq!(kept.asked("a.example."), 1);
}

/// What has expired is worth keeping, too.
#[test]
fn e17_after_a_restart_without_any_upstream_answers_are_given_out_stale() {
    let kept = Kept::new();
    let config = kept.config("1d").replace("maxTtl: 1h }, negative", "maxTtl: 1s }, negative");
    let config = config.replace("cache: {", "cache: { serveStale: { clientWait: 50ms },");
    let server = Server::start(&config);
    ask(&server, "a.example.");
    stop(server);
    drop(kept.upstream);
    let mut server = Server::start(&config);
    server.until("it is given out stale", |server| {
        let reply = server.udp(&query("a.example.", A));
        reply.answers.first().is_some_and(|record| record.ttl == 30)
    });
}

#[test]
fn e17_a_file_that_cannot_be_used_is_named_and_nothing_of_it_is_used() {
    let kept = Kept::new();
    let server = kept.start("1d");
    (0..20).for_each(|n| ask(&server, &format!("n{n}.example.")));
    stop(server);
    let good = fs::read(kept.file()).unwrap();
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    for (bytes, why) in [
        (changed(0), "it is no file of nodens' cache"),
        (changed(11), "it has format 19, and this version reads 3 alone"),
        (changed(good.len() - 1), "its checksum is wrong"),
        (changed(100), "its checksum is wrong"),
        (good[..good.len() / 2].to_vec(), "octets long instead of"),
        (Vec::new(), "it is no file of nodens' cache"),
    ] {
        fs::write(kept.file(), bytes).unwrap();
        let mut server = kept.start("1d");
        server.until_logged("the saved cache is not used");
        let log = server.log();
        let said: Vec<&str> = log.lines().filter(|line| line.contains("the saved cache is not used")).collect();
        assert!(said.len() == 1 && said[0].contains(why), "{why}: {log}");
        assert_eq!(server.metric("nodens_cache_entries", ""), 0.0);
        kill(server);
    }
    fs::write(kept.file(), good).unwrap();
    assert_eq!(kept.start("1d").metric("nodens_persist_entries", "loaded"), 20.0, "it was the changes");
}

#[test]
fn e17_a_folder_that_is_missing_is_no_reason_not_to_serve() {
    let kept = Kept::new();
    let missing = kept.config("1s").replace("/cache,", "/missing/cache,");
    let mut server = Server::start(&missing);
    ask(&server, "a.example.");
    server.until("it has tried", |server| saves(server, "failed") >= 2.0);
    let log = stop(server);
    let said: Vec<&str> = log.lines().filter(|line| line.contains("cannot be saved")).collect();
    assert!(said.len() == 1 && said[0].contains("its folder must be there when nodens starts"), "{log}");
}

/// A file system of its own for `kept`, as large as `options` say.
fn tmpfs(kept: &Kept, options: &str) {
    run(&format!("mount -t tmpfs -o {options} none {}", kept.folder.path().display()));
}

#[test]
fn g09_a_disk_that_is_full_or_read_only_costs_no_query_and_the_old_file_stays() {
    isolated("g09_a_disk_that_is_full_or_read_only_costs_no_query_and_the_old_file_stays", || {
        let kept = Kept::new();
        tmpfs(&kept, "size=64k");
        let mut server = kept.start("1s");
        ask(&server, "a.example.");
        server.until("it is saved", |server| server.metric("nodens_persist_entries", "saved") == 1.0);
        let folder = kept.folder.path().display().to_string();
        let old = || fs::read(kept.file()).unwrap();
        for (broken, mended) in [
            (format!("cat /dev/zero >{folder}/filler 2>/dev/null || true"), format!("rm {folder}/filler")),
            (format!("mount -o remount,ro {folder}"), format!("mount -o remount,rw {folder}")),
        ] {
            run(&broken);
            // One may be under way.
            let failed = saves(&server, "failed");
            server.until("it cannot save", |server| saves(server, "failed") > failed + 1.0);
            let before = old();
            ask(&server, "a.example.");
            ask(&server, &format!("b{failed}.example."));
            let failed = saves(&server, "failed");
            server.until("it tries again", |server| saves(server, "failed") > failed);
            assert!(old() == before, "{broken}");
            run(&mended);
            let saved = saves(&server, "ok");
            server.until("it saves again", |server| saves(server, "ok") > saved);
        }
        let log = server.log();
        assert_eq!(log.lines().filter(|line| line.contains("cannot be saved")).count(), 1, "{log}");
        run(&format!("mount -o remount,ro {folder}"));
        kill(server);
        let server = kept.start("1s");
        ask(&server, "a.example.");
        assert_eq!(kept.asked("a.example."), 1, "what cannot be written can be read");
        stop(server);
    });
}

/// Holds every fsync of a process for a while, as a disk that hangs does.
struct Hanging(Child);

impl Hanging {
    fn of(pid: u32) -> Hanging {
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=60s", "-o", "/dev/null"]);
        let child = command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).spawn().unwrap();
        Hanging(child)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The file that is being written, once something is in it.
fn is_being_written(kept: &Kept) -> bool {
    fs::metadata(with_suffix(&kept.file())).is_ok_and(|file| file.len() > 0)
}

fn with_suffix(path: &Path) -> PathBuf {
    path.with_file_name("cache.new")
}

/// Starts a server that has saved the first of two names and hangs in saving both.
fn hanging() -> Option<(Kept, Server, Hanging)> {
    if !can_run("strace -p PID") {
        return None;
    }
    let kept = Kept::new();
    let mut server = kept.start("1s");
    ask(&server, "first.example.");
    server.until("it is saved", |server| server.metric("nodens_persist_entries", "saved") == 1.0);
    let hanging = Hanging::of(server.pid());
    server.until("it is traced", |server| {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        !status.contains("TracerPid:\t0\n")
    });
    ask(&server, "second.example.");
    server.until("it hangs", |_| is_being_written(&kept));
    Some((kept, server, hanging))
}

#[test]
fn g09_a_kill_in_the_middle_of_a_save_leaves_the_old_file() {
    let Some((kept, server, hanging)) = hanging() else { return };
    server.signal("KILL");
    drop(hanging);
    server.wait();
    assert!(is_being_written(&kept), "the new one is not in its place");
    let mut server = kept.start("1s");
    assert_eq!(server.metric("nodens_persist_entries", "loaded"), 1.0);
    ask(&server, "first.example.");
    assert_eq!(kept.asked("first.example."), 1);
    server.until("what was left is written over", |server| saves(server, "ok") > 0.0 && !is_being_written(&kept));
}

#[test]
fn g09_a_disk_that_hangs_holds_up_neither_answers_nor_probes_nor_reloads_and_a_stop_not_for_long() {
    let Some((kept, mut server, hanging)) = hanging() else { return };
    for name in ["first.example.", "third.example."] {
        ask(&server, name);
    }
    assert!(server.is_ready());
    assert!(server.get(server.health, "/health").unwrap().contains("200 OK"));
    server.rewrite(&kept.config("1d"));
    server.signal("HUP");
    server.until("it is loaded", |server| server.metric("nodens_config_reloads_total", "loaded") == 1.0);
    assert!(server.log().contains("cache.persist"), "that it takes a restart is said: {}", server.log());
    ask(&server, "fourth.example.");
    assert!(is_being_written(&kept) && saves(&server, "failed") == 0.0, "it hangs");
    let begin = Instant::now();
    server.signal("TERM");
    server.until_logged("stopped");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // As with a real disk, the process is not gone before its last call has returned.
    drop(hanging);
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("the cache cannot be saved in time"), "{log}");
}
