"""PinTeach: Google Calendar and Drive."""

import os

from worker import Failed, Permanent, call, read

CALENDAR = os.environ["CALENDAR"]       # where they answer
DRIVE = os.environ["DRIVE"]


def calendar_sync(args):
    """One batch; sessions that failed are told of, the others are kept."""
    events, errors = {}, {}
    for session, in read("SELECT session_id::text FROM pinteach.session_calendar_sync "
                         "WHERE status = 'pending' ORDER BY session_id LIMIT 20"):
        try:
            events[session] = call(CALENDAR + "/calendar", {"session": session}, timeout=0.5)
        except Permanent as error:
            errors[session] = str(error)

    def store(db):
        for session, event in events.items():
            db.execute("UPDATE pinteach.session_calendar_sync SET status = 'synced', "
                       "google_calendar_event_id = %s, google_meet_link = %s, last_error = NULL "
                       "WHERE session_id = %s", (event["id"], event["link"], session))
        for session, error in errors.items():
            db.execute("UPDATE pinteach.session_calendar_sync SET status = 'failed', last_error = %s "
                       "WHERE session_id = %s", (error, session))
        return len(events)
    return store


def drive_copy(args):
    def status(db, to, file=None):
        return db.execute(
            "UPDATE pinteach.drive_file_copies SET status = %s, drive_file_id = coalesce(%s, drive_file_id) "
            "WHERE id = %s", (to, file, args["copy"])).rowcount

    (source,), = read("UPDATE pinteach.drive_file_copies SET status = 'copying' WHERE id = %s "
                      "RETURNING source", args["copy"])
    try:
        copy = call(DRIVE + source, {"copy": args["copy"]}, timeout=0.5)
    except Failed as error:
        error.store = lambda db, final: status(db, "failed" if final else "pending")
        raise
    return lambda db: status(db, "copied", copy["id"])


def drive_check(args):
    (file,), = read("SELECT drive_file_id FROM pinteach.drive_file_copies WHERE id = %s", args["copy"])
    try:
        state = "trashed" if call(DRIVE + "/file/" + file, timeout=0.5)["trashed"] else "copied"
    except Permanent as error:
        if not str(error).startswith("404"):
            raise
        state = "deleted"
    return lambda db: db.execute(
        "UPDATE pinteach.drive_file_copies SET status = %s, checked_at = now() WHERE id = %s",
        (state, args["copy"])).rowcount


HANDLERS = {"calendar_sync": calendar_sync, "drive_copy": drive_copy, "drive_check": drive_check}
