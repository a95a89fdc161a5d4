"""
The tables that rows are deleted from.

Each is made afresh before each measured delete, always in the same way:
filled in the order of its time column, indexed, vacuumed and frozen, read into
the buffers, and followed by a checkpoint, so that every side finds the same
pages, the same statistics and the same WAL volume ahead of it.

A row is expired when it is older than KEEP; expired ones are 90 days old or
more and the others 10 or less, so that the count does not depend on when a
delete starts.
"""

from .sides import OWNER

KEEP = "60 days"

_ROW = """id, now() - CASE WHEN id <= {expired}
                           THEN interval '90 days' + ({expired} - id) * interval '1 second'
                           ELSE ({rows} - id) * interval '10 days' / ({rows} - {expired}) END,
          'payload of row ' || id"""


class Log:
    """A table like a log: `expired` of its `rows`, the oldest, are."""

    name = "log"

    def __init__(self, rows, expired, indexed=True):
        self.rows = rows
        self.expired = expired
        self.indexed = indexed

    def create(self, sql):
        drop_all(sql)
        fill(sql, "log", self.rows, self.expired)
        sql.query("ALTER TABLE log ADD PRIMARY KEY (id)")
        if self.indexed:
            sql.query("CREATE INDEX ON log (created_at)")
        settle(sql, "log")


class Cascade:
    """Parents, each with two children that cascade."""

    name = "log"

    def __init__(self, rows, expired):
        self.rows = rows
        self.expired = expired

    def create(self, sql):
        drop_all(sql)
        fill(sql, "log", self.rows, self.expired)
        sql.query("ALTER TABLE log ADD PRIMARY KEY (id)")
        sql.query("CREATE INDEX ON log (created_at)")
        sql.query(f"CREATE TABLE log_line AS SELECT id, (id + 1) / 2 AS log_id, "
                  f"'line of row ' || id AS line "
                  f"FROM generate_series(1, 2 * {self.rows}::bigint) id")
        sql.query("ALTER TABLE log_line ADD PRIMARY KEY (id)")
        sql.query("CREATE INDEX ON log_line (log_id)")
        sql.query("ALTER TABLE log_line ADD FOREIGN KEY (log_id) "
                  "REFERENCES log ON DELETE CASCADE")
        settle(sql, "log", "log_line")

    @property
    def children(self):
        return 2 * self.expired


class Partitioned:
    """One partition that is expired as a whole, and one that is not."""

    name = "log"

    def __init__(self, rows, expired):
        self.rows = rows
        self.expired = expired

    def create(self, sql):
        drop_all(sql)
        sql.query("CREATE TABLE log (id bigint, created_at timestamptz NOT NULL, "
                  "payload text) PARTITION BY RANGE (created_at)")
        self._partition(sql, "log_old", "-infinity", "70 days")
        self._partition(sql, "log_new", "70 days", "infinity")
        fill_existing(sql, "log", self.rows, self.expired)
        sql.query("CREATE INDEX ON log (created_at)")
        settle(sql, "log")

    def _partition(self, sql, name, first, last):
        bounds = [bound if "infinity" in bound else sql.value(
            f"SELECT date_trunc('day', now()) - interval '{bound}'")
            for bound in (first, last)]
        sql.query(f"CREATE TABLE {name} PARTITION OF log "
                  f"FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')")


class Partman(Partitioned):
    """The same as pg_partman makes it: its own monthly partitions."""

    def create(self, sql):
        drop_all(sql)
        sql.query("CREATE TABLE log (id bigint, created_at timestamptz NOT NULL, "
                  "payload text) PARTITION BY RANGE (created_at)")
        month = "date_trunc('month', now()) - interval '4 months'"
        sql.query("SELECT partman.create_parent('public.log', 'created_at', "
                  "'native', 'monthly', p_premake := 1, p_start_partition := "
                  f"({month})::text)")
        sql.query("UPDATE partman.part_config SET retention = "
                  f"'{KEEP}', retention_keep_table = false")
        sql.query(f"INSERT INTO log SELECT id, {month} + interval '1 day' "
                  f"+ id * interval '20 days' / {self.expired}, "
                  "'payload of row ' || id "
                  f"FROM generate_series(1, {self.expired}::bigint) id")
        sql.query("INSERT INTO log SELECT id, now(), 'payload of row ' || id "
                  f"FROM generate_series({self.expired}::bigint + 1, {self.rows}) id")
        sql.query("CREATE INDEX ON log (created_at)")
        settle(sql, "log")


def drop_all(sql):
    if sql.value("SELECT to_regclass('partman.part_config') IS NOT NULL") == "t":
        sql.query("DELETE FROM partman.part_config")
    for (name,) in sql.query("SELECT oid::regclass FROM pg_class "
                             "WHERE relname ~ '^log' AND relkind = 'p'"):
        sql.query(f"DROP TABLE {name} CASCADE")
    for (name,) in sql.query("SELECT oid::regclass FROM pg_class "
                             "WHERE relname ~ '^log' AND relkind = 'r' "
                             "AND relnamespace = 'public'::regnamespace"):
        sql.query(f"DROP TABLE {name} CASCADE")


def fill(sql, name, rows, expired):
    sql.query(f"CREATE TABLE {name} (id bigint NOT NULL, "
              "created_at timestamptz NOT NULL, payload text)")
    fill_existing(sql, name, rows, expired)


def fill_existing(sql, name, rows, expired):
    select = _ROW.format(rows=rows, expired=expired)
    sql.query(f"INSERT INTO {name} SELECT {select} "
              f"FROM generate_series(1, {rows}::bigint) id")


def settle(sql, *names):
    """Everything that PostgreSQL would do later is done now."""
    for name in names:
        for (relation,) in sql.query(
                "SELECT relid::regclass FROM pg_partition_tree("
                f"'{name}') UNION SELECT '{name}'::regclass"):
            sql.query(f"ALTER TABLE {relation} OWNER TO {OWNER}")
        sql.query(f"VACUUM (FREEZE, ANALYZE) {name}")
        sql.query(f"""
            SELECT sum(pg_prewarm(c.oid)) FROM pg_class c
            WHERE c.relkind IN ('r', 'i') AND (
                c.oid IN (SELECT relid FROM pg_partition_tree('{name}'))
                OR c.oid = '{name}'::regclass
                OR c.oid IN (SELECT indexrelid FROM pg_index
                             WHERE indrelid = '{name}'::regclass))""")
    sql.query("CHECKPOINT")
