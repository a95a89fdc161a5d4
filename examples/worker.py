#!/usr/bin/python3
"""
A worker for external jobs of pg_janitor (Debian: apt install python3-psycopg).

    worker.py DSN HANDLERS.py [--until-idle] [--lease SECONDS] [--runs N]

HANDLERS.py has a dict HANDLERS: name of a job -> function(args).  It makes the
call, outside of any transaction, and returns a function(db) that stores what
came of it and says how many records that were: it runs in the transaction that
finishes the run.  When the call fails it raises Snooze, Permanent or anything
else; an exception may have such a function, too, as its attribute `store`:
store(db, final), where final is that no other attempt follows.

Ends when it loses the server, with nothing lost: let systemd start it again.
"""

import argparse
import datetime
import email.utils
import importlib.util
import json
import os
import socket
import sys
import urllib.error
import urllib.request

import psycopg
from psycopg.types.json import Jsonb


class Failed(Exception):
    """Another attempt may do better."""

    store = None


class Permanent(Failed):
    """Another attempt would fail as well."""


class Snooze(Failed):
    """Not now: in so many seconds, and no attempt is lost."""

    def __init__(self, message, seconds):
        super().__init__(message)
        self.seconds = seconds


def retry_after(header):
    """Seconds: what Retry-After says, in seconds or as a date."""
    try:
        return max(float(header), 0)
    except ValueError:
        then = email.utils.parsedate_to_datetime(header)
        now = datetime.datetime.now(datetime.timezone.utc)
        return max((then - now).total_seconds(), 0)


def call(url, data=None, timeout=5):
    """A request with JSON in both directions; what its failure means."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 429:
            raise Snooze("429", retry_after(error.headers.get("Retry-After", "30")))
        text = error.read(1000).decode(errors="replace")
        if 400 <= error.code < 500:
            raise Permanent(f"{error.code} {text}")
        raise Failed(f"{error.code}")
    except (OSError, ValueError) as error:      # refused, timed out, cut off
        raise Failed(str(error))


def connect(dsn):
    return psycopg.connect(dsn, autocommit=True, client_encoding="utf8")


def read(query, *values):
    """For handlers that need more than their arguments."""
    with connect(os.environ["DSN"]) as db:
        return db.execute(query, values).fetchall()


def finish(db, run, **word):
    """The end of a run; `named => value` of what is given."""
    names = "".join(f", {name} => %({name})s" for name in word)
    return db.execute(f"SELECT job_finish(%(id)s, %(token)s{names})",
                      dict(word, id=run[0], token=run[1])).fetchone()[0]


def work(db, job, run, handler):
    store, failed, word = None, None, {}
    try:
        store = handler(run[2])
    except Exception as reason:
        failed = getattr(reason, "store", None)
        word = {"success": False, "error": str(reason) or repr(reason)}
        if isinstance(reason, Snooze):
            word["snooze"] = f"{reason.seconds} seconds"
        elif isinstance(reason, Permanent):
            word["permanent"] = True
    try:
        with db.transaction():
            if not word:
                word["records"] = store(db)
            said = finish(db, run, **word)
            if said in ("retry", "failed") and failed:
                failed(db, said == "failed")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        said = "too late: the lease is lost, and all of it is undone"
    print(f"{job} {run[0]}: {said} {word.get('error', '')}", flush=True)


def claim(db, job, options):
    return db.execute("SELECT execution_id, token, args FROM job_claim(%s, %s, %s, %s)",
                      (job, options.runs, f"{options.lease} seconds",
                       f"{socket.gethostname()}:{os.getpid()}")).fetchall()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dsn")
    parser.add_argument("handlers")
    parser.add_argument("--until-idle", action="store_true")
    parser.add_argument("--lease", type=float, default=60)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    sys.modules["worker"] = sys.modules["__main__"]     # handlers import worker
    spec = importlib.util.spec_from_file_location("handlers", options.handlers)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    with connect(options.dsn) as db:
        told = []               # by notifications that came during statements
        db.add_notify_handler(told.append)
        db.execute("LISTEN pg_janitor")
        while True:
            told.clear()
            found = 0
            for job, handler in module.HANDLERS.items():
                for run in claim(db, job, options):
                    work(db, job, run, handler)
                    found += 1
            if found == 0 and options.until_idle:
                return
            if found == 0 and not told:
                next(db.notifies())     # something has become claimable


if __name__ == "__main__":
    main()
