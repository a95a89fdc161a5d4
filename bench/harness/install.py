"""
What is measured: this checkout, built into a private prefix, and Debian's
pg_cron for the same server.

The checkout is copied first: somebody may be building in it, and what is
measured must not change in the middle.
"""

import os
import re
import shutil
import subprocess
import sys

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
NOT_COPIED = shutil.ignore_patterns(".git", "tmp_install", "tmp_check*",
                                    "*.o", "*.so", "build", ".built-for",
                                    "__pycache__")


def checkout_version():
    """The commit, and whether the tree differs from it."""
    done = subprocess.run(["git", "-C", CHECKOUT, "describe", "--always",
                           "--dirty"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.strip() or "not committed"


class Server:
    """The PostgreSQL that pg_config belongs to."""

    def __init__(self, pg_config):
        self.pg_config = shutil.which(pg_config)
        if self.pg_config is None:
            raise SystemExit(f"bench: no {pg_config} here: install "
                             "postgresql-server-dev-15 or set PG_CONFIG")
        self.bindir = self._ask("--bindir")
        self.version = self._ask("--version")
        self.major = int(re.search(r"\d+", self.version)[0])
        self._pkglibdir = self._ask("--pkglibdir")
        self._sharedir = self._ask("--sharedir")

    def has_cron(self):
        return os.path.exists(os.path.join(self._pkglibdir, "pg_cron.so"))

    def has_partman(self):
        return os.path.exists(os.path.join(self._sharedir, "extension",
                                           "pg_partman.control"))

    def pgmq_version(self):
        """None if the server does not have it."""
        try:
            with open(os.path.join(self._sharedir, "extension",
                                   "pgmq.control")) as file:
                return re.search(r"default_version *= *'(.*)'", file.read())[1]
        except FileNotFoundError:
            return None

    def cron_version(self):
        return self._package_version("cron")

    def partman_version(self):
        return self._package_version("partman")

    def _package_version(self, name):
        """Of Debian's package if it is one."""
        if shutil.which("dpkg-query"):
            done = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Package} ${Version}",
                 _package(self, name)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            if done.returncode == 0:
                return done.stdout
        return f"pg_{name} of unknown version"

    def _ask(self, option):
        return subprocess.check_output([self.pg_config, option],
                                       text=True).strip()


def _package(server, name):
    return f"postgresql-{server.major}-{name}"


def install_cron(server):
    """Makes pg_cron available if it can; says whether it is."""
    return _install(server, "cron", server.has_cron)


def install_partman(server):
    """The same for pg_partman."""
    return _install(server, "partman", server.has_partman)


def _install(server, name, is_there):
    package = _package(server, name)
    if is_there():
        return True
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {package} ...", file=sys.stderr)
        subprocess.run(["apt-get", "install", "-y", "-q", package],
                       stdin=subprocess.DEVNULL, stdout=sys.stderr,
                       env={**os.environ,
                            "DEBIAN_FRONTEND": "noninteractive"})
    return is_there()


def copy_checkout(base):
    source = os.path.join(base, "source")
    shutil.copytree(CHECKOUT, source, ignore=NOT_COPIED)
    return source


def build_janitor(server, source):
    """Builds it and installs it privately; returns the server's bindir."""
    _make(server, source, "tmp_install")
    return os.path.join(source, "tmp_install") + server.bindir


def build_bench_schedule(server, source):
    """The program that times the calendar."""
    directory = os.path.join(source, "t", "unit")
    _make(server, directory, "build/bench_schedule")
    return os.path.join(directory, "build", "bench_schedule")


def _make(server, directory, target):
    done = subprocess.run(["make", "-s", "-j2", f"PG_CONFIG={server.pg_config}",
                           target],
                          cwd=directory, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise SystemExit(f"bench: make {target} failed:\n"
                         f"{done.stdout[-4000:]}")
