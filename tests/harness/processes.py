"""Processes of one run: started in their own group, watched while waited for, and ended by their id.

It never ends a process that the run did not start: what is left over is found by a mark that only this run's
processes carry in their environment.
"""

import json
import os
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 20
GONE_SECONDS_MAX = 10
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 40

# Loopback is never reached through a proxy, whatever the machine's environment says.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failed(Exception):
    """A step of the harness did not come about; its text says which and why."""


class Processes:
    """Everything that one set-up started. Leaving the context ends what still runs."""

    def __init__(self, logs):
        self.logs = Path(logs)
        self.mark = {"OSTLER_TEST_RUN": secrets.token_hex(8)}
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.kill()
        for pid in self.leftovers():
            os.kill(pid, signal.SIGKILL)

    def environment(self, extra=None):
        # Ostler takes its flags from OSTLER_* too: what somebody has set for theirs must not reach this run's.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OSTLER_")}
        return {**inherited, "NO_PROXY": "127.0.0.1,localhost", **self.mark, **(extra or {})}

    def start(self, name, argv, env=None):
        process = Process(name, argv, self.environment(env), self.logs / f"{name}.log")
        self.running.append(process)
        return process

    def run(self, name, argv, seconds_max):
        """Runs a program to its end: `(exit code or None when it took too long, standard output)`."""
        process = Process(name, argv, self.environment(), self.logs / f"{name}.log", capture=True)
        try:
            out, _ = process.popen.communicate(timeout=seconds_max)
            return process.popen.returncode, out
        except subprocess.TimeoutExpired:
            process.kill()
            return None, process.popen.communicate()[0]

    def leftovers(self):
        """Ids of the processes that carry this run's mark; empty where there is no /proc to look at."""
        wanted = "=".join(*self.mark.items()).encode()
        return [pid for pid in pids() if wanted in read(f"/proc/{pid}/environ").split(b"\0")]

    def commands(self):
        """Command lines of the processes that carry this run's mark."""
        return [read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace") for pid in self.leftovers()]


class Process:
    def __init__(self, name, argv, env, log, capture=False):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if capture else out,
                stderr=out,
                start_new_session=True,
            )

    def wait_for(self, what, look, seconds_max=START_SECONDS_MAX):
        """Looks until there is something to see. Raises Failed when time is up or the process has ended."""
        deadline = time.monotonic() + seconds_max
        while True:
            exit_code = self.popen.poll()
            found = look()
            if found is not None:
                return found
            if exit_code is not None:
                raise Failed(f"{self.name} ended with exit code {exit_code} before {what}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: no {what} within {seconds_max} s")
            time.sleep(POLL_SECONDS)

    def listeners(self, state_dir):
        """Addresses from the `listen.json` that an Ostler process writes once it is ready to be talked to."""
        path = Path(state_dir) / "listen.json"
        return self.wait_for(str(path), lambda: listeners_of(path))

    def says(self, opening):
        """What follows `opening` on the first line of its output that starts so."""

        def look():
            lines = self.log.read_text(errors="replace").splitlines()
            return next((line.removeprefix(opening) for line in lines if line.startswith(opening)), None)

        return self.wait_for(f"line that starts with {opening!r}", look)

    def stop(self, by=signal.SIGTERM):
        """Asks the process to end: its exit code, or None if it had to be killed."""
        if self.popen.poll() is None:
            self.popen.send_signal(by)
        try:
            return self.popen.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()

    def tail(self):
        return tail(self.log)


def listeners_of(path):
    if not path.exists():
        return None
    return json.loads(path.read_text())["listeners"]


def eventually(holds, seconds_max=GONE_SECONDS_MAX):
    """Whether `holds()` becomes true within the time."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def http(method, url, body=None, headers=None):
    """`(status, body)`, also for an answer that is an error; `(None, reason)` when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    sent = {"content-type": "application/json", "accept": "application/json, text/event-stream", **(headers or {})}
    request = urllib.request.Request(url, data=data, method=method, headers=sent)
    try:
        with OPENER.open(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, HTTPException) as error:
        return None, str(error).encode()


def tail(log):
    return "\n".join(Path(log).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if os.path.isdir("/proc") else []


def read(path):
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
