"""
The ways to erase people that are compared.  Each has the same calls:

    prepare(sql, people)	once the tables are there; not measured
    run(sql, people)		returns seconds

Seconds are those of the erasure itself: of a procedure from sending the CALL
to its answer; of a job of pg_janitor job_execution.duration.
"""

from .sides import OWNER

# What is to become of a person, rule by rule.
RULES = (
    ("sessions", "session", "account_id", "delete", None),
    ("keys", "api_key", "account_id", "delete", None),
    ("events", "audit_event", "actor_id", "anonymize",
     "actor_ip = NULL, user_agent = NULL"),
    ("messages", "message", "sender_id", "anonymize", "body = ''"),
    ("account", "account", "id", "anonymize",
     "username = 'deleted ' || r.id, email = NULL, born = NULL, "
     "deleted_at = job_now()"),
    ("request", "request", "account_id", "delete", None),
)
ITEMS = ("SELECT q.account_id AS id FROM request q "
         "JOIN account a ON a.id = q.account_id "
         "WHERE q.delete_at <= now() AND a.deleted_at IS NULL "
         "ORDER BY q.delete_at")


def _statement(table, column, action, assignments, key):
    if action == "delete":
        return f"DELETE FROM {table} WHERE {column} = {key}"
    return (f"UPDATE {table} AS r SET "
            f"{assignments.replace('job_now()', 'now()')} "
            f"WHERE {column} = {key}")


class Eraser:
    title = None

    def prepare(self, sql, people):
        pass


class Loop(Eraser):
    """
    What people write: an exception block for each, a commit now and then.
    The key is read once; nobody looks whether it is still to be done.
    """

    def __init__(self, commit_every):
        self._every = commit_every
        self.title = f"loop, commit every {commit_every}"

    def prepare(self, sql, people):
        body = ";\n".join(_statement(table, column, action, set_, "key")
                          for _, table, column, action, set_ in RULES)
        sql.query(f"""
            DROP PROCEDURE IF EXISTS erase_all;
            DROP TABLE IF EXISTS erase_error;
            CREATE TABLE erase_error (id bigint, message text);
            ALTER TABLE erase_error OWNER TO {OWNER};
            CREATE PROCEDURE erase_all() LANGUAGE plpgsql AS $$
            DECLARE
                key bigint;
                n bigint := 0;
            BEGIN
                FOR key IN {ITEMS} LOOP
                    BEGIN
                        {body};
                    EXCEPTION WHEN OTHERS THEN
                        INSERT INTO erase_error VALUES (key, SQLERRM);
                    END;
                    n := n + 1;
                    IF n % {self._every} = 0 THEN COMMIT; END IF;
                END LOOP;
            END $$""")

    def run(self, sql, people):
        sql.query(f"SET SESSION AUTHORIZATION {OWNER}")
        _, before, after = sql.timed("CALL erase_all()")
        sql.query("RESET SESSION AUTHORIZATION")
        return after - before


class Items(Eraser):
    """An items job of pg_janitor, with rules or with a command."""

    _serial = 0

    def __init__(self, title, command=False, **options):
        self.title = title
        self._command = command
        self._options = options

    def prepare(self, sql, people):
        Items._serial += 1
        self.name = f"erase_{Items._serial}"
        options = "".join(f", {name} => {_literal(value)}"
                          for name, value in self._options.items())
        command = "NULL"
        if self._command:
            command = "$c$" + ";\n".join(
                _statement(table, column, action, set_,
                           "($1->>'id')::bigint")
                for _, table, column, action, set_ in RULES) + "$c$"
        sql.query(f"SELECT job_schedule_items('{self.name}', NULL, $q${ITEMS}$q$, "
                  f"{command}, owner => '{OWNER}'{options})")
        if not self._command:
            for name, table, column, action, set_ in RULES:
                assignments = f", set => $s${set_}$s$" if set_ else ""
                sql.query(f"SELECT job_set_rule('{self.name}', '{name}', "
                          f"'{table}', action => '{action}', match => "
                          f"$m$r.{column} = ($1->>'id')::bigint$m${assignments})")
        # workers that are there, as after the last occurrence of any job
        sql.query("SELECT job_schedule('warm_' || i, NULL, 'SELECT 1', "
                  f"owner => '{OWNER}') FROM generate_series(1, 2) i")
        for (run,) in sql.query("SELECT job_trigger('warm_' || i) "
                                "FROM generate_series(1, 2) i"):
            sql.query(f"SELECT job_wait({run})")

    def run(self, sql, people):
        run = sql.value(f"SELECT job_trigger('{self.name}')")
        sql.query(f"SELECT job_wait({run}, '15 min')")
        status, seconds, done, failed, message = sql.query(
            "SELECT status, extract(epoch FROM duration), records_processed, "
            "coalesce(failed_records, 0), coalesce(error_message, detail) "
            f"FROM job_execution WHERE id = {run}")[0]
        expected = people.people - people.failing
        if (int(done or 0), int(failed)) != (expected, people.failing):
            raise RuntimeError(f"{self.title}: {status}, {done} done, "
                               f"{failed} failed: {message}")
        return float(seconds)


SET = "name = 'gone', email = job_mask_email(r.email), ip = NULL, note = NULL"


class PlainUpdate(Eraser):
    title = "one UPDATE"

    def run(self, sql, table):
        sql.query(f"SET SESSION AUTHORIZATION {OWNER}")
        _, before, after = sql.timed(
            f"UPDATE customer r SET {SET} "
            "WHERE left_at < now() - interval '1 year'")
        sql.query("RESET SESSION AUTHORIZATION")
        return after - before


class Rule(Eraser):
    title = "pg_janitor"
    longest = 0                 # batch, seconds

    def prepare(self, sql, table):
        sql.query("SELECT job_schedule_retention('customers', NULL, "
                  "'customer', 'left_at', '1 year', action => 'anonymize', "
                  f"set => $s${SET}$s$, owner => '{OWNER}')")

    def run(self, sql, table):
        run = sql.value("SELECT job_trigger('customers')")
        sql.query(f"SELECT job_wait({run}, '15 min')")
        status, seconds, rows, message, longest = sql.query(
            "SELECT status, extract(epoch FROM duration), records_processed, "
            "coalesce(error_message, detail), "
            "jsonb_path_query_first(result, '$.**.longest_ms') "
            f"FROM job_execution WHERE id = {run}")[0]
        if status != "succeeded" or int(rows) != table.rows:
            raise RuntimeError(f"{self.title}: {status}, {rows} rows: "
                               f"{message}")
        self.longest = max(self.longest, int(longest) / 1000)
        return float(seconds)


def _literal(value):
    return f"'{value}'" if isinstance(value, str) else str(value).lower()
