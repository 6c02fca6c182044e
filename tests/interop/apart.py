"""Two real servers of two eras behind one data plane, and what either could take of the other: calls, policy, what their tools
say of themselves, credentials and headers, and who is written down. `kit.py` on the first Python library speaks the legacy era,
`kit.mjs` the modern one; they have tools of the same names. Clients lie about whom they mean.

Each composition is looked at in the same way. In a right one nothing may be found; in those that are put together wrongly on purpose something
must be, so that a look that sees nothing fails. A tool that is denied everywhere is asked for in each, so that a mount that
nobody governs is found in all of them.
"""

import hashlib
import json
import threading
from http.client import HTTPConnection, IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import dataplane
from processes import eventually, http

KEY = "ostler_ci-0123456789abcdef0123456789abcdef012345"
SERVERS = {"one": "python-v1-http", "two": "ts-v2-http"}
ERAS = {"one": "legacy", "two": "modern"}
MODERN, LEGACY = "2026-07-28", "2025-11-25"
LIES = {"x-agent": "root", "x-tenant": "stolen", "cookie": "tenant=stolen"}


def check(world):
    """What is found of a right composition, and of three wrong ones."""
    for name, is_wrong, change, crossed in [
        ("right", False, lambda config: None, False),
        ("crossed", True, lambda config: None, True),
        ("ungoverned", True, lambda config: config.pop("policy"), False),
        ("one tenant for both", True, one_tenant, False),
    ]:
        faults = look(world, name.replace(" ", "-"), change, crossed)
        title = f"two eras apart · {name}"
        if is_wrong:
            world.report(f"{title} · something is found", bool(faults), "nothing was found")
        else:
            world.report(f"{title} · nothing is found", not faults, "; ".join(faults)[:2000])


def one_tenant(config):
    config["upstreams"]["one"]["headers"]["x-tenant"] = config["upstreams"]["two"]["headers"]["x-tenant"]


def look(world, name, change, crossed):
    taps = {mount: Tap(world.addresses[server]["url"]) for mount, server in SERVERS.items()}
    behind = dict(zip(SERVERS, reversed(SERVERS))) if crossed else {mount: mount for mount in SERVERS}
    config = config_of({mount: taps[behind[mount]].url for mount in SERVERS})
    change(config)
    path = world.folder / f"apart-{name}.yaml"
    path.write_text(json.dumps(config))
    state = world.folder / f"apart-{name}"
    process, listeners = dataplane.standalone(world.processes, f"apart-{name}", world.ostler, path, state)
    try:
        return list(Look(listeners["mcp"], taps, state).faults())
    finally:
        process.stop()
        for tap in taps.values():
            tap.stop()


def config_of(urls):
    return {
        "version": 1,
        "upstreams": {
            mount: {
                "http": {"url": url},
                "headers": {"Authorization": f"Bearer key-of-{mount}", "x-tenant": f"tenant-of-{mount}"},
            }
            for mount, url in urls.items()
        },
        "bundles": {"all": {"mounts": list(urls)}},
        "auth": {"api_keys": {"ci": {"key": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()}}},
        "identity": {"sources": ["api_key", {"header": "x-agent"}]},
        "audit": {},
        "policy": {
            "rules": [
                {"name": "probe", "match": {"tool": "ask"}, "action": "deny"},
                # The first server says of `count` that it changes nothing; the second says nothing of it.
                {"name": "harmless", "match": {"tool": "count", "annotations": {"readOnlyHint": False}}, "action": "deny"},
            ]
        },
    }


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Who has left is told nothing."""


class Tap:
    """Stands before a server and notes what it is sent. Answers are read to their end; unasked streams are not offered."""

    def __init__(self, url):
        self.seen, target = [], urlsplit(url)
        tap = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                tap.seen.append((dict((key.lower(), value) for key, value in self.headers.items()), body.decode()))
                self.forward(body)

            def do_DELETE(self):
                self.forward(None)

            def do_GET(self):
                self.answer(405, {}, b"")

            def forward(self, body):
                sent = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
                upstream = HTTPConnection(target.hostname, target.port, timeout=30)
                try:
                    upstream.request(self.command, target.path, body, sent)
                    answer = upstream.getresponse()
                    self.answer(answer.status, dict(answer.getheaders()), whole(answer))
                finally:
                    upstream.close()

            def answer(self, status, headers, body):
                self.send_response(status)
                for key, value in headers.items():
                    if key.lower() in ("content-type", "mcp-session-id"):
                        self.send_header(key, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/mcp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def calls(self, nonce):
        return [seen for seen in self.seen if '"tools/call"' in seen[1] and nonce in seen[1]]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def whole(answer):
    """What there is of it: a server that has said all may hang up on an event stream."""
    try:
        return answer.read()
    except IncompleteRead as cut:
        return cut.partial


class Look:
    def __init__(self, mcp, taps, state):
        self.base, self.taps, self.state, self.numbers = f"http://{mcp}/mcp", taps, state, iter(range(1, 1000))

    def faults(self):
        for mount in SERVERS:
            eventually(lambda mount=mount: "result" in self.modern(mount, "tools/list", {}))
        yield from self.echoes()
        yield from self.annotations()
        yield from self.headers()
        yield from self.probe()

    def everywhere(self, tool, arguments):
        """`(mount that it leads to, nonce, answer)` of a call by each way."""
        for mount, prefix, to in [("one", "", "one"), ("two", "", "two"), ("all", "one__", "one"), ("all", "two__", "two")]:
            for ask in (self.modern, self.legacy):
                nonce = f"nonce-{next(self.numbers)}-"
                params = {"name": prefix + tool, "arguments": arguments(nonce), "_meta": {"nonce": nonce, "upstream": "root"}}
                yield to, nonce, ask(mount, "tools/call", params)

    def echoes(self):
        made = list(self.everywhere("echo", lambda nonce: {"message": nonce}))
        for to, nonce, answer in made:
            if f"Echo: {nonce}" not in json.dumps(answer.get("result")):
                yield f"{to} answered {answer}"
            for mount, tap in self.taps.items():
                calls = tap.calls(nonce)
                if len(calls) != (mount == to):
                    yield f"a call for {to} came to {mount} {len(calls)} times"
                for headers, _ in calls:
                    is_modern = headers.get("mcp-protocol-version") == MODERN and "mcp-session-id" not in headers
                    if is_modern != (ERAS[mount] == "modern"):
                        yield f"{mount} was spoken to in another era: {headers}"
        records = self.records()
        for to, nonce, _ in made:
            written = [it for it in records if (it.get("arguments") or {}).get("message") == nonce]
            said = [(it.get("upstream"), it.get("mount"), it.get("identity")) for it in written]
            if said != [(to, to, "ci")]:
                yield f"a call for {to} is written down as {said}"

    def records(self):
        found = []
        for file in sorted((self.state / "audit").iterdir()):
            for line in file.read_text(errors="replace").splitlines():
                try:
                    found.append(json.loads(line.split(" ", 1)[1]))
                except (ValueError, IndexError):
                    continue
        return [record for record in found if record.get("kind") == "decision"]

    def annotations(self):
        for to, nonce, answer in self.everywhere("count", lambda _: {"to": 1}):
            is_denied = answer.get("error", {}).get("data", {}).get("rule") == "harmless"
            reached = [mount for mount, tap in self.taps.items() if tap.calls(nonce)]
            if to == "one" and ("result" not in answer or reached not in ([], ["one"])):
                yield f"one's own word on its tool did not count: {answer}"
            if to == "two" and (not is_denied or reached):
                yield f"another's word on a tool of this name counted: {answer}"

    def headers(self):
        for mount, tap in self.taps.items():
            for headers, body in tap.seen:
                own = (headers.get("authorization"), headers.get("x-tenant"))
                if own != (f"Bearer key-of-{mount}", f"tenant-of-{mount}"):
                    yield f"{mount} was sent {own}"
                if KEY in f"{headers}{body}" or "stolen" in f"{headers}{body}" or "x-agent" in headers:
                    yield f"{mount} was sent the client's headers: {headers}"

    def probe(self):
        for to, nonce, answer in self.everywhere("ask", lambda _: {}):
            is_denied = answer.get("error", {}).get("data", {}).get("rule") == "probe"
            if not is_denied or any(tap.calls(nonce) for tap in self.taps.values()):
                yield f"the probe went through to {to}: {answer}"

    def modern(self, mount, method, params):
        meta = "io.modelcontextprotocol/"
        params = {
            **params,
            "_meta": {
                **params.get("_meta", {}),
                f"{meta}protocolVersion": MODERN,
                f"{meta}clientCapabilities": {},
                f"{meta}clientInfo": {"name": "root", "version": "1"},
            },
        }
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        if "name" in params:
            headers["mcp-name"] = params["name"]
        return self.ask(mount, method, params, headers)

    def legacy(self, mount, method, params):
        greeting = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "root", "version": "1"}}
        headers = {"mcp-protocol-version": LEGACY, "mcp-session-id": self.session(mount, greeting)}
        body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        http("POST", f"{self.base}/{mount}", body, {**self.lying(), **headers})
        return self.ask(mount, method, params, headers)

    def session(self, mount, greeting):
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": greeting})
        target = urlsplit(self.base)
        connection = HTTPConnection(target.hostname, target.port, timeout=30)
        try:
            sent = {"content-type": "application/json", "accept": "application/json, text/event-stream", **self.lying()}
            connection.request("POST", f"{target.path}/{mount}", body, sent)
            answer = connection.getresponse()
            answer.read()
            return answer.getheader("mcp-session-id", "none")
        finally:
            connection.close()

    def ask(self, mount, method, params, headers):
        body = {"jsonrpc": "2.0", "id": next(self.numbers), "method": method, "params": params}
        _, answer = http("POST", f"{self.base}/{mount}", body, {**self.lying(), **headers})
        return answered(answer, body["id"])

    def lying(self):
        return {"authorization": f"Bearer {KEY}", **LIES}


def answered(body, number):
    """The response to this request, in one piece of JSON or on an event stream; what was said instead, if there is none."""
    text = body.decode(errors="replace")
    for piece in [text, *(line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:"))]:
        try:
            message = json.loads(piece)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("id") == number:
            return message
    return {"said": text[:300]}
