"""What a suite takes from npm and PyPI: in exact versions, in `.env/` beside the suite, which git ignores.

Nothing is installed on the machine itself, and no registry is named here: whatever the machine's npm and pip are set up
with is used.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

INSTALL_SECONDS_MAX = 900


class Installed:
    """The packages of one suite, named in the `package.json`, `package-lock.json` and `requirements.txt` of its folder.

    What cannot live in one Python environment with the rest is in `requirements-NAME.txt`, and has one of its own.
    """

    def __init__(self, suite):
        self.suite = suite
        self.env = suite / ".env"
        self.node_env = self.env / "node"
        self.requirements = sorted(suite.glob("requirements*.txt"))

    def bring(self, *node_programs):
        """Installs what is missing or was installed for other versions, and lays the folders named beside it.

        Node finds modules from where the importing file lies, so a suite's own programs run beside `node_modules`.
        """
        wanted = hashlib.sha256()
        for file in (self.suite / "package.json", self.suite / "package-lock.json", *self.requirements):
            wanted.update(file.read_bytes())
        wanted.update(f"{sys.version} {output([tool('node'), '--version'])}".encode())
        stamp = self.env / "installed"
        if not (stamp.exists() and stamp.read_text() == wanted.hexdigest()):
            shutil.rmtree(self.env, ignore_errors=True)
            self.bring_node()
            self.bring_python()
            stamp.write_text(wanted.hexdigest())
        for folder in node_programs:
            shutil.rmtree(self.node_env / folder, ignore_errors=True)
            ignored = shutil.ignore_patterns("*.py", "__pycache__", "target")
            shutil.copytree(self.suite / folder, self.node_env / folder, ignore=ignored)

    def bring_node(self):
        self.node_env.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(self.suite / name, self.node_env / name)
        # No package here needs its install script, and none gets to run one.
        quietly([tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], self.node_env)

    def bring_python(self):
        for file in self.requirements:
            name = file.stem.removeprefix("requirements").removeprefix("-")
            python = self.python(name)
            venv.create(Path(python).parents[1], with_pip=True)
            pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--quiet"]
            quietly([*pip, "-r", str(file)], self.env)

    def python(self, name=""):
        """The interpreter that has what `requirements.txt` names, or what `requirements-NAME.txt` does."""
        return str(self.env / (f"python-{name}" if name else "python") / "bin" / "python")

    def node(self):
        """The Node.js that npm brought for this platform, where a package names one, else the machine's."""
        found = sorted(self.module().glob("node-*/bin/node"))
        return str(found[0]) if found else tool("node")

    def module(self, *path):
        return self.node_env.joinpath("node_modules", *path)

    def version_of(self, package):
        """The exact version of a Node package, as the lock file has it."""
        lock = json.loads((self.suite / "package-lock.json").read_text())
        return lock["packages"][f"node_modules/{package}"]["version"]

    def version_of_python(self, package, name=""):
        """The exact version of a Python package, as the requirements of that name have it."""
        file = self.suite / (f"requirements-{name}.txt" if name else "requirements.txt")
        lines = file.read_text().splitlines()
        return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


def tool(name):
    path = shutil.which(name)
    if path is None:
        sys.exit(f"{name} is needed and is not on the PATH; the suites take Node.js 20 or newer with npm, and Rust")
    return path


def output(argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


def quietly(argv, cwd, env=None):
    """Runs an installer; what it printed is shown only when it fails."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)} failed:\n{done.stdout}")
