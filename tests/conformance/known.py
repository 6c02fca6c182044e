"""What is known to differ, and what is expected to fail: entries with a reason each, every one of which must still hold."""

import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Authorization:
    """The scenarios of authorization: those that are run with a token of the data plane's own, and why the others are not."""

    def __init__(self):
        table = tomllib.loads((HERE / "auth.toml").read_text())
        self.own, self.exceptions = table["own"], table["exception"]
        self.listed = set()
        for entry in self.exceptions:
            if not entry.get("reason"):
                raise ValueError(f"auth.toml: an entry has no reason: {entry}")

    def unknown(self, listed):
        """Scenarios that the suite lists and nothing here is about."""
        self.listed.update(listed)
        return ", ".join(sorted({*listed} - self.all()))

    def gone(self):
        """Scenarios that stand here and that the suite has not listed."""
        return ", ".join(sorted(self.all() - self.listed))

    def all(self):
        return {*self.own, *(scenario for entry in self.exceptions for scenario in entry["scenarios"])}


class Known:
    """The entries of one file under one key. Those that nothing made use of are stale."""

    def __init__(self, file, key):
        self.file = file
        entries = tomllib.loads((HERE / file).read_text())[key]
        for entry in entries:
            if not entry.get("reason"):
                raise ValueError(f"{file}: an entry has no reason: {entry}")
        # (entry, check) is used once something differs by it, for a fixture that it is about.
        self.unused = {(index, check) for index, entry in enumerate(entries) for check in entry["checks"]}
        self.entries = entries

    def covers(self, fixture, key, value, check, way=None):
        """Whether an entry whose `key` is `value` is about this check of this fixture, behind a mount over `way`."""
        for index, entry in enumerate(self.entries):
            about = fixture in entry.get("fixtures", [fixture]) and way in (None, entry.get("way", way))
            if entry[key] == value and about and check in entry["checks"]:
                self.unused.discard((index, check))
                return True
        return False

    def stale(self):
        return [f"{self.file}: {check} holds no longer" for _, check in sorted(self.unused)]
