//! `ostler control` on stores that do not open, on file systems that are full or read-only, and its backup and restore, as
//! an operator meets them: one sentence, an exit code, and nothing lost.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rustix::process::Signal;
use support::{LIMIT, Place, one_sentence, signal, text, until};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const ANY: [&str; 4] = ["--listen", "127.0.0.1:0", "--sync-listen", "127.0.0.1:0"];

/// A running `ostler control`.
struct Control {
    child: Child,
    /// Its state folder as it is seen from here.
    state: PathBuf,
}

fn control_args(state: &Path) -> Vec<String> {
    let mut args = vec!["control".to_owned()];
    args.extend(ANY.map(str::to_owned));
    args.extend(["--log-level".to_owned(), "off".to_owned(), "--state-dir".to_owned()]);
    args.push(state.display().to_string());
    args
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

impl Control {
    async fn start(place: &Place, state: &Path) -> Self {
        let mut command = place.ostler(&refs(&control_args(state)));
        Self::ready(command.spawn().unwrap(), state.to_owned()).await
    }

    async fn ready(mut child: Child, state: PathBuf) -> Self {
        let pid = child.id().unwrap();
        until("control listens", async || {
            assert!(child.try_wait().unwrap().is_none(), "control ended");
            let text = fs::read_to_string(state.join("listen.json")).unwrap_or_default();
            text.contains(&format!("\"pid\":{pid},"))
        })
        .await;
        Self { child, state }
    }

    fn url(&self) -> String {
        let listening: serde_json::Value =
            serde_json::from_slice(&fs::read(self.state.join("listen.json")).unwrap()).unwrap();
        format!("http://{}", listening["listeners"]["api"].as_str().unwrap())
    }

    async fn operator(&self, place: &Place, args: &[&str]) -> Output {
        let (url, token) = (self.url(), self.state.join("operator.token"));
        let mut all = args.to_vec();
        all.extend(["--control", &url, "--token-file", token.to_str().unwrap()]);
        place.run(&all).await
    }

    async fn apply(&self, place: &Place, name: &str, upstreams: usize) -> Output {
        let upstreams: Vec<_> = (0..upstreams)
            .map(|number| format!("  u{number}: {{ http: {{ url: \"http://127.0.0.1:9/{name}\" }} }}\n"))
            .collect();
        let text = format!("# {name}\nversion: 1\nupstreams:\n{}", upstreams.concat());
        let file = place.write(&format!("{name}.yaml"), &text);
        self.operator(place, &["apply", "-f", file.to_str().unwrap(), "-o", "json"]).await
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn end(mut self) {
        signal(self.child.id().unwrap().try_into().unwrap(), Signal::TERM);
        let status = timeout(LIMIT, self.child.wait()).await.expect("control does not end").unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

/// A command that sees a file system of its own, of a few bytes, at `folder`. `None`, and a line that says so, where the
/// machine has no namespaces for users; `control/src/store/tests/disk.rs` fails a disk below the engine everywhere.
async fn on_small_disk(
    place: &Place,
    folder: &Path,
    size: &str,
    prepare: &str,
    args: &[String],
) -> Option<Command> {
    let works = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output().await;
    if !works.is_ok_and(|output| output.status.success()) {
        eprintln!("not tried on a real file system: this machine lets nobody mount one");
        return None;
    }
    fs::create_dir_all(folder).unwrap();
    let script =
        format!("mount -t tmpfs -o mode=700,size={size} none \"$1\" && {prepare} && shift && exec \"$@\"");
    let inner = place.ostler(&[]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(folder).arg(inner.as_std().get_program()).args(args);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OSTLER_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    Some(command)
}

async fn refusal(place: &Place, state: &Path) -> String {
    one_sentence(&place.run(&refs(&control_args(state))).await)
}

fn json(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_store_that_does_not_open_is_one_sentence_with_a_remedy_and_exit_code_1() {
    let place = Place::new();
    let state = place.path("state");
    let store = state.join("control.redb");
    let control = Control::start(&place, &state).await;
    json(&control.apply(&place, "first", 1).await);
    let second = refusal(&place, &state).await;
    assert!(second.contains("in use by another process") && second.contains("--state-dir"), "{second}");
    control.end().await;

    let whole = fs::read(&store).unwrap();
    let remedy = "ostler control restore --from FILE";
    for (content, said) in [
        (Vec::new(), "it is empty"),
        (b"version: 1\n".to_vec(), "its first bytes are not those of a store"),
        (whole.split_at(whole.len() / 2).0.to_vec(), "is damaged"),
    ] {
        fs::write(&store, &content).unwrap();
        let sentence = refusal(&place, &state).await;
        assert!(sentence.contains(said) && sentence.contains(remedy), "{sentence}");
        assert_eq!(fs::read(&store).unwrap(), content, "{sentence}");
        let checked = place.run(&["control", "check", "--state-dir", state.to_str().unwrap()]).await;
        assert!(one_sentence(&checked).contains(said));
    }
    fs::remove_file(&store).unwrap();
    let lost = refusal(&place, &state).await;
    assert!(lost.contains("is missing from a folder that had one") && lost.contains(remedy), "{lost}");
    assert!(!store.exists());

    fs::write(&store, &whole).unwrap();
    let control = Control::start(&place, &state).await;
    let versions = json(&control.operator(&place, &["versions", "-o", "json"]).await);
    assert_eq!(versions["items"].as_array().unwrap().len(), 1);
    control.end().await;
}

#[tokio::test]
async fn a_store_of_another_user_is_named() {
    let place = Place::new();
    let state = place.path("state");
    let control = Control::start(&place, &state).await;
    control.end().await;
    let mut command = place.ostler(&refs(&control_args(&state)));
    if rustix::process::geteuid().is_root() {
        // Root may do everything: somebody else asks. The tokens are theirs; the store is not.
        fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["", "operator.token", "node.token", "epoch", "control.lock"] {
            std::os::unix::fs::chown(state.join(name), Some(65_534), Some(65_534)).unwrap();
        }
        let binary = place.path("ostler");
        fs::copy(command.as_std().get_program(), &binary).unwrap();
        command = {
            let mut other = Command::new(&binary);
            other.args(control_args(&state)).stdin(Stdio::null()).kill_on_drop(true);
            other.uid(65_534).gid(65_534);
            other
        };
    } else {
        fs::set_permissions(state.join("control.redb"), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let sentence = one_sentence(&timeout(LIMIT, command.output()).await.unwrap().unwrap());
    assert!(sentence.contains("may not be read and written by this user"), "{sentence}");
}

#[tokio::test]
async fn a_read_only_or_full_file_system_is_named_at_start() {
    let place = Place::new();
    let source = place.path("source");
    Control::start(&place, &source).await.end().await;
    let folder = place.path("small");
    let read_only = format!("cp -a {}/. \"$1\" && mount -o remount,ro \"$1\"", source.display());
    for (size, prepare, said) in
        [("8m", read_only.as_str(), "read-only file system"), ("28k", "true", "no space is left")]
    {
        let args = control_args(&folder);
        let Some(mut command) = on_small_disk(&place, &folder, size, prepare, &args).await else { return };
        let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
        let sentence = one_sentence(&output);
        assert!(sentence.contains(said), "{sentence}");
    }
}

#[tokio::test]
async fn on_a_full_disk_control_refuses_applies_serves_the_rest_and_goes_on_when_space_is_back() {
    let place = Place::new();
    let folder = place.path("small");
    let args = control_args(&folder);
    let Some(mut command) = on_small_disk(&place, &folder, "4m", "true", &args).await else { return };
    let child = command.spawn().unwrap();
    // What it has mounted is only seen through it.
    let seen = PathBuf::from(format!("/proc/{}/root", child.id().unwrap()));
    let seen = seen.join(folder.strip_prefix("/").unwrap());
    let control = Control::ready(child, seen.clone()).await;
    json(&control.apply(&place, "first", 1).await);

    let ballast = seen.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[7; 4096]).is_ok() {}
    drop(file);
    let mut made = 1;
    let refused = loop {
        let answer = control.apply(&place, &format!("big{made}"), 2_000).await;
        if answer.status.code() == Some(1) {
            break answer;
        }
        made += 1;
        assert!(made < 100, "the disk is never full");
    };
    let complaint = text(&refused.stderr);
    assert!(complaint.contains("no space is left") && complaint.contains("needs no restart"), "{complaint}");
    let problem: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&507.into(), &"store_full".into()));
    let versions = json(&control.operator(&place, &["versions", "-o", "json"]).await);
    assert_eq!(versions["items"].as_array().unwrap().len(), made);

    fs::remove_file(&ballast).unwrap();
    let after = json(&control.apply(&place, "after", 1).await);
    assert_eq!(after["version"], made + 1);
    control.end().await;
}

#[tokio::test]
async fn a_backup_is_taken_from_a_running_control_and_restored_beside_what_it_replaces() {
    let place = Place::new();
    let state = place.path("state");
    let backup = place.path("ostler.backup");
    let (to, folder) = (backup.to_str().unwrap(), state.to_str().unwrap());
    let control = Control::start(&place, &state).await;
    let before = json(&control.apply(&place, "before", 3).await);
    let taken = place.run(&["control", "backup", "--to", to, "--state-dir", folder]).await;
    assert_eq!(taken.status.code(), Some(0), "{}", text(&taken.stderr));
    assert!(text(&taken.stdout).contains("1 versions of 1 fleets"), "{}", text(&taken.stdout));
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    json(&control.apply(&place, "after", 3).await);

    // Again, by address and token; the older backup gives way, another file does not.
    let again = control.operator(&place, &["control", "backup", "--to", to]).await;
    assert!(text(&again.stdout).contains("2 versions"), "{}", text(&again.stderr));
    let precious = place.write("precious.yaml", "version: 1\n");
    let refused = control.operator(&place, &["control", "backup", "--to", precious.to_str().unwrap()]).await;
    assert!(one_sentence(&refused).contains("is no backup that can be replaced"));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "version: 1\n");
    let locked = place.run(&["control", "restore", "--from", to, "--replace", "--state-dir", folder]).await;
    assert!(one_sentence(&locked).contains("in use by another process"));
    control.kill().await;

    let gone = place.run(&["control", "backup", "--to", to, "--state-dir", folder]).await;
    assert!(one_sentence(&gone).contains("control"), "{}", text(&gone.stderr));
    let elsewhere = place.path("elsewhere");
    for (target, replace) in [(&elsewhere, false), (&state, true)] {
        let mut args = vec!["control", "restore", "--from", to, "--state-dir", target.to_str().unwrap()];
        args.extend(replace.then_some("--replace"));
        let restored = place.run(&args).await;
        assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
        let said = text(&restored.stdout);
        assert_eq!(said.contains("is kept as"), replace, "{said}");
        let checked = place.run(&["control", "check", "--state-dir", target.to_str().unwrap()]).await;
        assert!(text(&checked.stdout).contains("the store is whole"), "{}", text(&checked.stderr));
        let control = Control::start(&place, target).await;
        let versions = json(&control.operator(&place, &["versions", "-o", "json"]).await);
        let versions = versions["items"].as_array().unwrap();
        assert_eq!(versions.len(), 3);
        assert!(versions[0]["epoch"].as_u64().unwrap() > before["epoch"].as_u64().unwrap());
        let status = text(&control.operator(&place, &["status"]).await.stdout);
        assert!(status.contains(&format!("version  3 of epoch {}", versions[0]["epoch"])), "{status}");
        control.end().await;
    }
}
