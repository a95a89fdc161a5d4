"""
The people that bench/erasure erases: an account each, its request to be
erased, and what has piled up about it in four more tables, 20 rows in all.

Made afresh before each measured erasure, always in the same way: the rows of
one person are spread over the tables as they would be if all had come in the
order of time, indexed by whom they belong to, vacuumed and frozen, read into
the buffers, and followed by a checkpoint.
"""

from .sides import OWNER

SESSIONS, KEYS, EVENTS, MESSAGES = 4, 1, 9, 4
TABLES = ("account", "request", "session", "api_key", "audit_event",
          "message")
ROWS_EACH = 2 + SESSIONS + KEYS + EVENTS + MESSAGES


def _numbers(count, people):
    """Rows i, of them each person owns `count`, not side by side."""
    return (f"generate_series(0, {count * people} - 1) i, "
            f"LATERAL (SELECT 1 + i % {people} AS owner) o")


class People:
    """`every`: each so many-th person cannot be erased (0: all can)."""

    def __init__(self, people, every=0):
        self.people = people
        self.every = every

    @property
    def failing(self):
        return self.people // self.every if self.every else 0

    def create(self, sql):
        n = self.people
        locked = f"i % {self.every} = 0" if self.every else "false"
        sql.query(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")
        sql.query("CREATE TABLE account (id bigint NOT NULL, "
                  "username text NOT NULL, email text, born date, "
                  "locked boolean NOT NULL, deleted_at timestamptz)")
        sql.query("INSERT INTO account SELECT i, 'user ' || i, "
                  "'user' || i || '@example.com', "
                  f"date '1950-01-01' + i % 20000, {locked} "
                  f"FROM generate_series(1, {n}) i")
        sql.query("CREATE TABLE request AS SELECT i::bigint AS account_id, "
                  f"now() - ({n} - i) * interval '1 ms' - interval '1 hour' "
                  f"AS delete_at FROM generate_series(1, {n}) i")
        sql.query("CREATE TABLE session AS SELECT i::bigint AS id, "
                  "owner::bigint AS account_id, '192.0.2.0'::inet + i % 256 "
                  "AS ip, 'agent ' || i AS user_agent "
                  f"FROM {_numbers(SESSIONS, n)}")
        sql.query("CREATE TABLE api_key AS SELECT i::bigint AS id, "
                  "owner::bigint AS account_id, md5(i::text) AS hash "
                  f"FROM {_numbers(KEYS, n)}")
        sql.query("CREATE TABLE audit_event AS SELECT i::bigint AS id, "
                  "owner::bigint AS actor_id, '192.0.2.0'::inet + i % 256 "
                  "AS actor_ip, 'login' AS action, 'agent ' || i AS user_agent "
                  f"FROM {_numbers(EVENTS, n)}")
        sql.query("CREATE TABLE message AS SELECT i::bigint AS id, "
                  "owner::bigint AS sender_id, 'message number ' || i AS body "
                  f"FROM {_numbers(MESSAGES, n)}")
        self._index(sql)
        self._settle(sql)

    def _index(self, sql):
        for table in ("account", "session", "api_key", "audit_event",
                      "message"):
            sql.query(f"ALTER TABLE {table} ADD PRIMARY KEY (id)")
        sql.query("ALTER TABLE request ADD PRIMARY KEY (account_id)")
        sql.query("ALTER TABLE account ADD CONSTRAINT not_while_locked "
                  "CHECK (NOT locked OR deleted_at IS NULL)")
        for table, column in (("request", "delete_at"),
                              ("session", "account_id"),
                              ("api_key", "account_id"),
                              ("audit_event", "actor_id"),
                              ("message", "sender_id")):
            sql.query(f"CREATE INDEX ON {table} ({column})")
        for table in ("request", "session", "api_key"):
            sql.query(f"ALTER TABLE {table} ADD FOREIGN KEY (account_id) "
                      "REFERENCES account")

    def _settle(self, sql):
        for table in TABLES:
            sql.query(f"ALTER TABLE {table} OWNER TO {OWNER}")
            sql.query(f"VACUUM (FREEZE, ANALYZE) {table}")
            sql.query("SELECT sum(pg_prewarm(oid)) FROM pg_class "
                      f"WHERE oid = '{table}'::regclass OR oid IN (SELECT "
                      f"indexrelid FROM pg_index WHERE indrelid = "
                      f"'{table}'::regclass)")
        sql.query("CHECKPOINT")

    def check(self, sql):
        """How many are erased: in every table, or in none."""
        erased, sessions, keys, events, messages, requests = map(
            int, sql.query("""
            SELECT count(*) FILTER (WHERE deleted_at IS NOT NULL
                                      AND email IS NULL),
                (SELECT count(*) FROM session),
                (SELECT count(*) FROM api_key),
                (SELECT count(*) FROM audit_event WHERE actor_ip IS NOT NULL
                                                     OR user_agent IS NOT NULL),
                (SELECT count(*) FROM message WHERE body <> ''),
                (SELECT count(*) FROM request)
            FROM account""")[0])
        left = self.people - erased
        if (sessions, keys, events, messages, requests) != (
                left * SESSIONS, left * KEYS, left * EVENTS, left * MESSAGES,
                left) or left != self.failing:
            raise RuntimeError(f"{erased} accounts erased, left: {sessions} "
                               f"sessions, {keys} keys, {events} events, "
                               f"{messages} messages, {requests} requests")
        return erased


class Customers:
    """One table of people who have left long ago, for a retention rule."""

    def __init__(self, rows):
        self.rows = rows

    def create(self, sql):
        sql.query("DROP TABLE IF EXISTS customer")
        sql.query("CREATE TABLE customer AS SELECT i::bigint AS id, "
                  "now() - interval '2 years' - i * interval '1 second' "
                  "AS left_at, 'customer ' || i AS name, "
                  "'customer' || i || '@example.com' AS email, "
                  "'192.0.2.0'::inet + i % 256 AS ip, 'note ' || i AS note "
                  f"FROM generate_series({self.rows}, 1, -1) i")
        sql.query("ALTER TABLE customer ADD PRIMARY KEY (id)")
        sql.query("CREATE INDEX ON customer (left_at)")
        sql.query(f"ALTER TABLE customer OWNER TO {OWNER}")
        sql.query("VACUUM (FREEZE, ANALYZE) customer")
        sql.query("SELECT pg_prewarm('customer'), "
                  "pg_prewarm('customer_pkey'), "
                  "pg_prewarm('customer_left_at_idx')")
        sql.query("CHECKPOINT")

    def check(self, sql):
        left = sql.value("SELECT count(*) FROM customer "
                         "WHERE name <> 'gone' OR ip IS NOT NULL")
        if left != "0":
            raise RuntimeError(f"{left} rows are not anonymized")
