"""Rapua: files of uploads, below UPLOADS on the application's host."""

import os
import re

from worker import Permanent

UPLOADS = os.environ["UPLOADS"]
SITE_URL = os.environ.get("SITE_URL", "http://localhost:8090")
PATH = re.compile(r"(?:%s)?/static/uploads/(\d{4}/\d{2}/\d{2}/[^/]+)" % re.escape(SITE_URL))


def remove_empty(directory):
    """The directory and those above it, as far as they are empty; not the root."""
    while os.path.realpath(directory) != os.path.realpath(UPLOADS):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            return                      # it is not empty
        directory = os.path.dirname(directory)


def file_delete(args):
    found = PATH.fullmatch(args["path"])
    if not found or ".." in args["path"]:
        raise Permanent("not a path of an upload: " + args["path"])
    path = os.path.join(UPLOADS, found[1])
    try:
        os.unlink(path)
        deleted = 1
    except FileNotFoundError:
        deleted = 0                     # somebody was faster: that is no error
    remove_empty(os.path.dirname(path))
    return lambda db: deleted


def disk_inventory(args):
    files = []
    for directory, _, names in os.walk(UPLOADS, topdown=False):
        below = os.path.relpath(directory, UPLOADS)
        for name in names:
            files.append((f"/static/uploads/{below}/{name}",
                          os.stat(os.path.join(directory, name)).st_mtime))
        if directory != UPLOADS and not os.listdir(directory):
            os.rmdir(directory)         # bottom-up: one pass for nested ones

    def store(db):
        db.execute("DELETE FROM rapua.disk_files")
        with db.cursor() as cursor:
            cursor.executemany("INSERT INTO rapua.disk_files VALUES (%s, to_timestamp(%s))", files)
        return len(files)
    return store


HANDLERS = {"file_delete": file_delete, "disk_inventory": disk_inventory}
