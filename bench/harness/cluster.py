"""
A throwaway cluster on a private unix socket, run by an ordinary user.

The postmaster is our direct child: it is stopped by its process id, and
nothing outside the bench's own directory is touched.
"""

import os
import pwd
import signal
import subprocess
import time

from .wire import Connection, ServerError

DATABASE = "postgres"
SUPERUSER = "bench"
PORT = 5432                     # names the socket file; nothing listens on TCP
START_TIMEOUT = 60              # seconds
STOP_TIMEOUT = 60

# Alike on both sides; everything else is PostgreSQL's default.
COMMON_SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "max_worker_processes": "64",
}
PRIVATE_SETTINGS = {
    "listen_addresses": "''",
    "log_timezone": "'UTC'",
    "timezone": "'UTC'",
    "unix_socket_permissions": "0700",
}


def ordinary_user():
    """Arguments for subprocess that keep the server from running as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid,
                "extra_groups": []}
    raise SystemExit("bench: root needs a user postgres or nobody to "
                     "run the servers")


class Cluster:
    def __init__(self, name, bindir, base, settings, common=None):
        self.directory = os.path.join(base, name)
        self.data = os.path.join(self.directory, "data")
        self.log = os.path.join(self.directory, "log")
        self.pid = None
        self._bindir = bindir
        self._settings = {**(common or COMMON_SETTINGS), **settings}
        self._server = None
        self._user = ordinary_user()
        self._environment = {"PATH": os.environ["PATH"], "LC_ALL": "C",
                             "TZ": "UTC", "HOME": self.directory}

    def create(self):
        os.mkdir(self.directory)
        if self._user:
            os.chown(self.directory, self._user["user"], self._user["group"])
        self._run("initdb", "--pgdata", self.data, "--username", SUPERUSER,
                  "--auth", "trust", "--encoding", "UTF8", "--no-locale",
                  "--no-sync")

    def start(self, **more):
        """Starts with the side's settings and `more` for this start only."""
        settings = {**PRIVATE_SETTINGS, **self._settings,
                    "unix_socket_directories": f"'{self.directory}'", **more}
        with open(os.path.join(self.data, "postgresql.auto.conf"), "w") as conf:
            conf.writelines(f"{key} = {value}\n"
                            for key, value in settings.items())
        with open(self.log, "ab") as log:
            self._server = subprocess.Popen(
                [os.path.join(self._bindir, "postgres"), "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.directory, env=self._environment,
                start_new_session=True, **self._user)
        self.pid = self._server.pid
        self._wait_until_ready()

    def stop(self, how=signal.SIGINT):
        if self._server is None:
            return
        if self._server.poll() is None:
            self._server.send_signal(how)
            try:
                self._server.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._server.send_signal(signal.SIGQUIT)
                self._server.wait(STOP_TIMEOUT)
        self._server = None

    def connect(self):
        return Connection(os.path.join(self.directory, f".s.PGSQL.{PORT}"),
                          SUPERUSER, DATABASE)

    def log_tail(self, lines=20):
        try:
            with open(self.log, errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _run(self, program, *arguments):
        done = subprocess.run([os.path.join(self._bindir, program), *arguments],
                              stdin=subprocess.DEVNULL, cwd=self.directory,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env=self._environment, **self._user)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}")

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._server.poll() is not None:
                break
            try:
                self.connect().close()
                return
            except (OSError, ServerError):
                time.sleep(0.05)
        raise RuntimeError(f"the server did not start:\n{self.log_tail()}")
