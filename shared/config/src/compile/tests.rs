//! What a host makes of a validated config.

use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::compiled::{HttpTransport, StdioTransport, Transport};
use crate::{Code, judge_text};

#[derive(Default)]
struct Fake {
    env: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

impl Fake {
    fn with(env: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let map =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { env: map(env), files: map(files) }
    }
}

impl Lookup for Fake {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn file(&self, path: &str) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct Allow(GlobList, GlobList, GlobList);

impl Allow {
    fn everything() -> Self {
        Self(GlobList::any(), GlobList::any(), GlobList::any())
    }
}

fn run(text: &str, lookup: &Fake, allow: &Allow, unresolved: Unresolved) -> Result<Compiled, Report> {
    let config = judge_text(text.as_bytes()).unwrap_or_else(|report| panic!("{report}")).config;
    let Allow(allow_command, allow_ref, allow_listen) = allow;
    compile(&config, &Host { allow_command, allow_ref, allow_listen, listen: None, lookup, unresolved })
}

fn resolved(text: &str, lookup: &Fake) -> Compiled {
    run(text, lookup, &Allow::everything(), Unresolved::Refuse).unwrap_or_else(|report| panic!("{report}"))
}

fn http<'a>(compiled: &'a Compiled, name: &str) -> &'a HttpTransport {
    match &compiled.upstreams[name].transport {
        Transport::Http(http) => http,
        _ => panic!("{name} is not http"),
    }
}

fn stdio<'a>(compiled: &'a Compiled, name: &str) -> &'a StdioTransport {
    match &compiled.upstreams[name].transport {
        Transport::Stdio(stdio) => stdio,
        _ => panic!("{name} is not stdio"),
    }
}

const HTTP: &str = "
version: 1
upstreams:
  a:
    http: { url: 'https://${HOST:-a.example}:8443/mcp?x=1' }
    headers: { Authorization: 'Bearer ${file:/run/token}', X-Team: red, X-Cost: 5$$ }
";

#[test]
fn references_in_url_and_headers_are_resolved() {
    let compiled = resolved(HTTP, &Fake::with(&[], &[("/run/token", "secret\n")]));
    let http = http(&compiled, "a");
    assert_eq!((http.https, &*http.host, http.port), (true, "a.example", 8443));
    assert_eq!(http.path_and_query.as_str(), "/mcp?x=1");
    assert_eq!(http.headers["authorization"], "Bearer secret");
    assert!(http.headers["authorization"].is_sensitive() && !http.headers["x-team"].is_sensitive());
    assert_eq!(http.headers["x-cost"], "5$");
}

#[test]
fn references_in_args_and_env_are_resolved() {
    let text = "
version: 1
upstream:
  stdio: { command: npx, args: ['--root=${ROOT}', '$$HOME'], env: { B: '${B:-}', A: '${file:/a}' }, cwd: /srv, share: mount, warm: true }
";
    let compiled = resolved(text, &Fake::with(&[("ROOT", "/data")], &[("/a", "x\r\n")]));
    let stdio = stdio(&compiled, "default");
    assert_eq!(stdio.args.iter().map(|arg| arg.expose()).collect::<Vec<_>>(), ["--root=/data", "$HOME"]);
    let env: Vec<_> = stdio.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(env, [("A", "x"), ("B", "")]);
    assert_eq!((stdio.cwd.as_deref(), stdio.warm), (Some("/srv"), true));
    assert_eq!(compiled.default_mount.as_ref().unwrap().as_str(), "default");
}

#[test]
fn a_new_candidate_with_unresolved_references_is_refused_with_each_of_them() {
    let text =
        "version: 1\nupstreams:\n  a: { http: { url: 'http://${A}/${B}' }, headers: { X: '${file:/c}' } }\n";
    let report = run(text, &Fake::default(), &Allow::everything(), Unresolved::Refuse).unwrap_err();
    assert_eq!(report.diagnostics.len(), 3, "{report}");
    assert!(report.diagnostics.iter().all(|d| d.is(Code::UnresolvedReference)));
    assert!(
        report
            .diagnostics
            .iter()
            .any(|d| d.message.contains("`${file:/c}` cannot be read: entity not found")),
        "{report}"
    );
}

#[test]
fn the_last_known_good_serves_without_the_upstream_whose_reference_is_gone() {
    let text = "
version: 1
upstreams:
  a: { http: { url: http://a/ }, headers: { Authorization: 'Bearer ${GITHUB_TOKEN}' } }
  b: { http: { url: '${URL}' } }
  c: { http: { url: http://c/ } }
";
    let compiled = run(text, &Fake::default(), &Allow::everything(), Unresolved::MarkDown).unwrap();
    let unresolved = |name: &str| compiled.upstreams[name].unresolved.as_deref();
    assert_eq!(
        (unresolved("a"), unresolved("b"), unresolved("c")),
        (Some("GITHUB_TOKEN"), Some("URL"), None)
    );
    assert_eq!(http(&compiled, "b").host, "unresolved.invalid");
    assert_eq!(compiled.mounts.len(), 3);
}

#[test]
fn an_unusable_value_marks_the_upstream_of_the_last_known_good() {
    let text = "version: 1\nupstream: { http: { url: 'http://${HOST}/' } }\n";
    let lookup = Fake::with(&[("HOST", "not a host")], &[]);
    let compiled = run(text, &lookup, &Allow::everything(), Unresolved::MarkDown).unwrap();
    assert_eq!(compiled.upstreams["default"].unresolved.as_deref(), Some("HOST"));
    let report = run(text, &lookup, &Allow::everything(), Unresolved::Refuse).unwrap_err();
    assert!(report.has(Code::BadResolvedValue) && !report.to_string().contains("not a host"), "{report}");
}

#[test]
fn what_the_host_does_not_allow_is_refused_with_the_flag_to_set() {
    let text = "
version: 1
upstreams:
  a: { http: { url: http://a/ }, headers: { X: '${TEAM_TOKEN:-x}', Y: '${file:/etc/shadow}' } }
  b: { stdio: { command: bash } }
";
    let allow = Allow(
        GlobList::parse(["npx"]).unwrap(),
        GlobList::parse(["OSTLER_*", "file:/run/*"]).unwrap(),
        GlobList::none(),
    );
    for unresolved in [Unresolved::Refuse, Unresolved::MarkDown] {
        let report = run(text, &Fake::with(&[("TEAM_TOKEN", "x")], &[]), &allow, unresolved).unwrap_err();
        let found: Vec<_> = report.diagnostics.iter().map(|d| (&*d.name, &*d.path, &*d.help)).collect();
        assert_eq!(
            found,
            [
                (
                    "not_allowed_here",
                    "upstreams.a.headers.x",
                    "start the data plane with `--allow-ref 'TEAM_TOKEN'`"
                ),
                (
                    "not_allowed_here",
                    "upstreams.a.headers.y",
                    "start the data plane with `--allow-ref 'file:/etc/shadow'`"
                ),
                (
                    "not_allowed_here",
                    "upstreams.b.stdio.command",
                    "start the data plane with `--allow-command 'bash'`"
                ),
            ]
        );
    }
}

#[test]
fn the_flag_to_set_never_allows_more_than_was_refused() {
    for command in ["*", "a' --allow-ref '*", "a,*", "b?"] {
        let text = format!("version: 1\nupstream: {{ stdio: {{ command: /bin/{command:?} }} }}\n")
            .replace("/bin/\"", "\"/bin/");
        let allow = Allow(GlobList::none(), GlobList::none(), GlobList::none());
        let report = run(&text, &Fake::default(), &allow, Unresolved::Refuse).unwrap_err();
        assert_eq!(
            report.diagnostics[0].help,
            "start the data plane with a pattern for `--allow-command` that matches it"
        );
    }
}

#[test]
fn a_list_of_commands_is_not_got_round_through_the_environment() {
    let text = "version: 1\nupstream: { stdio: { command: npx, env: { LD_PRELOAD: /tmp/x.so, Path: /tmp, LANG: C } } }\n";
    let allow = Allow(GlobList::parse(["npx"]).unwrap(), GlobList::any(), GlobList::any());
    let report = run(text, &Fake::default(), &allow, Unresolved::Refuse).unwrap_err();
    assert_eq!(report.diagnostics.len(), 2, "{report}");
    assert!(run(text, &Fake::default(), &Allow::everything(), Unresolved::Refuse).is_ok());
    for name in ["NODE_OPTIONS", "PYTHONPATH", "BASH_ENV", "npm_config_registry", "BASH_FUNC_ls%%"] {
        let text =
            format!("version: 1\nupstream: {{ stdio: {{ command: npx, env: {{ \"{name}\": x }} }} }}\n");
        assert!(run(&text, &Fake::default(), &allow, Unresolved::Refuse).is_err(), "{name}");
    }
    let harmless =
        "version: 1\nupstream: { stdio: { command: npx, env: { PYTHONUNBUFFERED: '1' }, cwd: /tmp } }\n";
    assert!(run(harmless, &Fake::default(), &allow, Unresolved::Refuse).is_ok());
}

#[test]
fn a_list_of_commands_is_not_got_round_through_the_folder() {
    let text =
        |command: &str| format!("version: 1\nupstream: {{ stdio: {{ command: {command}, cwd: /tmp }} }}\n");
    let allow = Allow(
        GlobList::parse(["./tool", "bin/tool", "/opt/tool"]).unwrap(),
        GlobList::any(),
        GlobList::any(),
    );
    for command in ["./tool", "bin/tool"] {
        let report = run(&text(command), &Fake::default(), &allow, Unresolved::Refuse).unwrap_err();
        assert!(report.diagnostics[0].path.ends_with("stdio.cwd"), "{report}");
        assert!(run(&text(command), &Fake::default(), &Allow::everything(), Unresolved::Refuse).is_ok());
    }
    assert!(run(&text("/opt/tool"), &Fake::default(), &allow, Unresolved::Refuse).is_ok());
}

#[test]
fn the_identity_follows_what_makes_the_runtime_and_nothing_else() {
    let identity = |text: &str, lookup: &Fake| resolved(text, lookup).upstreams["a"].identity;
    let part = |text: &str, lookup: &Fake| resolved(text, lookup).upstreams["a"].part;
    let fake = Fake::with(&[("E", "1"), ("H", "h")], &[]);
    let other = Fake::with(&[("E", "2"), ("H", "h2")], &[]);

    let stdio = "version: 1\nupstreams: { a: { stdio: { command: c, args: [x], env: { E: '${E}' } } } }\n";
    assert_eq!(
        identity(stdio, &fake),
        identity(&stdio.replace("a: {", "a: { timeouts: { idle: 9s },"), &fake)
    );
    assert_ne!(part(stdio, &fake), part(&stdio.replace("a: {", "a: { timeouts: { idle: 9s },"), &fake));
    for changed in [
        stdio.replace("command: c", "command: d"),
        stdio.replace("[x]", "[x, y]"),
        stdio.replace("E: '", "F: '"),
        stdio.replace("command: c", "command: c, cwd: /d"),
        stdio.replace("command: c", "command: c, share: mount"),
    ] {
        assert_ne!(identity(stdio, &fake), identity(&changed, &fake), "{changed}");
    }
    assert_ne!(identity(stdio, &fake), identity(stdio, &other), "a resolved value is part of the identity");
    assert_eq!(part(stdio, &fake), part(stdio, &other), "and not of the part");

    let http = "version: 1\nupstreams: { a: { http: { url: 'http://${H}/' }, headers: { X: '1' } } }\n";
    assert_eq!(identity(http, &fake), identity(&http.replace("X: '1'", "X: '2'"), &fake));
    assert_ne!(identity(http, &fake), identity(http, &other));
}

#[test]
fn an_argument_that_moves_to_the_environment_is_another_identity() {
    let identity = |text: &str| resolved(text, &Fake::default()).upstreams["a"].identity;
    assert_ne!(
        identity("version: 1\nupstreams: { a: { stdio: { command: c, args: [A, b] } } }\n"),
        identity("version: 1\nupstreams: { a: { stdio: { command: c, env: { A: b } } } }\n"),
    );
}

#[test]
fn mounts_carry_the_part_that_they_come_from() {
    let text = "version: 1\nupstreams: { a: { http: { url: http://a/ } } }\nmounts: { m: { upstream: a } }\n";
    let compiled = resolved(text, &Fake::default());
    assert_eq!(compiled.mounts["a"].part, compiled.upstreams["a"].part);
    assert_ne!(compiled.mounts["m"].part, compiled.upstreams["a"].part);
    assert_eq!(compiled.mounts["m"].upstream.as_str(), "a");
}

#[test]
fn findings_about_a_host_get_their_lines_from_the_text() {
    let text = "version: 1\nupstream:\n  http: { url: http://a/ }\n  headers:\n    X-Team: ${TEAM}\n";
    let mut report = run(text, &Fake::default(), &Allow::everything(), Unresolved::Refuse).unwrap_err();
    crate::locate(text.as_bytes(), &mut report.diagnostics);
    let diagnostic = &report.diagnostics[0];
    assert_eq!((diagnostic.line, diagnostic.column), (Some(5), Some(13)));
    assert_eq!(diagnostic.source_line.as_deref(), Some("    X-Team: ${TEAM}"));
}

#[test]
fn every_reference_of_an_upstream_is_listed() {
    let text = "
version: 1
upstreams:
  a: { http: { url: 'http://${H}/' }, headers: { X: '${file:/x}' } }
  b: { stdio: { command: c, args: ['${A}', '${file:/a}'], env: { E: '${E}' } } }
";
    let config = judge_text(text.as_bytes()).unwrap().config;
    let names =
        |name: &str| config.upstreams()[name].references().map(crate::Reference::name).collect::<Vec<_>>();
    assert_eq!(names("a"), ["H", "file:/x"]);
    assert_eq!(names("b"), ["A", "file:/a", "E"]);
}

#[test]
fn the_real_lookup_reads_small_regular_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("small"), "x\n").unwrap();
    std::fs::write(path("large"), vec![b'x'; 65 * 1024]).unwrap();
    std::fs::write(path("binary"), b"\xff").unwrap();
    assert_eq!(ProcessLookup.file(&path("small")).unwrap(), "x\n");
    for name in ["large", "binary", "missing", "."] {
        assert!(ProcessLookup.file(&path(name)).is_err(), "{name}");
    }
    assert_eq!(ProcessLookup.env("OSTLER_TEST_NO_SUCH_VARIABLE"), None);
}

const LISTENERS: &str = "
version: 1
listeners:
  local: { address: '127.0.0.1:7410' }
  open: { address: '[::]:7411', tls: { certificate: '${file:/c}', key: '${file:/k}' } }
auth: { listeners: { open: { accept: [none] } } }
";

#[test]
fn a_listener_is_opened_only_where_the_host_allows_it() {
    let files = Fake::with(&[], &[("/c", "chain"), ("/k", "key")]);
    for unresolved in [Unresolved::Refuse, Unresolved::MarkDown] {
        let allow =
            Allow(GlobList::any(), GlobList::none(), GlobList::parse(["127.0.0.1:7*", "0.0.0.0:*"]).unwrap());
        let report = run(LISTENERS, &files, &allow, unresolved).unwrap_err();
        let found: Vec<_> = report.diagnostics.iter().map(|d| (&*d.name, &*d.path, &*d.help)).collect();
        assert_eq!(
            found,
            [
                (
                    "not_allowed_here",
                    "listeners.open.address",
                    "start the data plane with `--allow-listen '[::]:7411'`"
                ),
                (
                    "not_allowed_here",
                    "listeners.open.tls.certificate",
                    "start the data plane with `--allow-ref 'file:/c'`"
                ),
                (
                    "not_allowed_here",
                    "listeners.open.tls.key",
                    "start the data plane with `--allow-ref 'file:/k'`"
                ),
            ]
        );
    }
    let allow = Allow(GlobList::none(), GlobList::any(), GlobList::none());
    assert_eq!(run(LISTENERS, &files, &allow, Unresolved::Refuse).unwrap_err().diagnostics.len(), 2);
}

#[test]
fn a_listener_has_what_its_files_hold_and_shows_none_of_it() {
    let compiled = resolved(LISTENERS, &Fake::with(&[], &[("/c", "chain\n"), ("/k", "hunter2")]));
    let tls = compiled.listeners["open"].tls.as_ref().unwrap();
    assert_eq!((tls.certificate.text.expose(), tls.key.text.expose()), ("chain", "hunter2"));
    assert_eq!(tls.key.path.to_str(), Some("/k"));
    assert!(compiled.listeners["local"].tls.is_none());
    assert!(!format!("{compiled:?}").contains("hunter2"));
}

#[test]
fn a_key_that_is_not_there_refuses_a_candidate_and_marks_its_listener_in_the_last_known_good() {
    let lookup = Fake::with(&[], &[("/c", "chain")]);
    let report = run(LISTENERS, &lookup, &Allow::everything(), Unresolved::Refuse).unwrap_err();
    assert!(report.has(Code::UnresolvedReference) && report.diagnostics[0].path == "listeners.open.tls.key");
    let compiled = run(LISTENERS, &lookup, &Allow::everything(), Unresolved::MarkDown).unwrap();
    assert_eq!(compiled.listeners["open"].unresolved.as_deref(), Some("file:/k"));
    assert!(compiled.listeners["open"].tls.is_none() && compiled.listeners["local"].unresolved.is_none());
}
