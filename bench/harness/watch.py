"""
Looks at pg_janitor's workers while they work: the age of their transactions
and their private memory.  It costs some of a core, so what it looks at is
not what is timed.
"""

import threading
import time

INTERVAL = 0.005                # seconds between two looks
WORKERS = """
    SELECT pid, coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)
    FROM pg_stat_activity WHERE backend_type = 'pg_janitor worker'"""


class Watch:
    """with Watch(cluster) as watch: ...; then watch.longest, watch.growth()"""

    def __init__(self, cluster):
        self._cluster = cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._memory = {}       # pid: [(when, kB)]
        self._error = None
        self.longest = 0.0      # seconds; short by at most one look
        self.looks = 0

    def __enter__(self):
        self._sql = self._cluster.connect()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._sql.close()
        if self._error:
            raise self._error

    def _look(self):
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                for pid, age in self._sql.query(WORKERS):
                    self.longest = max(self.longest, float(age))
                    if self.looks % 10 == 0 and float(age) > 0:
                        self._memory.setdefault(pid, []).append(
                            (now, anonymous_kb(pid)))
                self.looks += 1
                time.sleep(INTERVAL)
        except (OSError, ValueError) as error:
            self._error = error

    def growth(self):
        """kB from a fifth of the way to the end, of the worst worker."""
        worst = 0
        for samples in self._memory.values():
            samples = [sample for sample in samples if sample[1]]
            if len(samples) < 5:
                continue
            first, last = samples[0][0], samples[-1][0]
            early = [kb for at, kb in samples
                     if at <= first + (last - first) / 5]
            worst = max(worst, samples[-1][1] - max(early))
        return worst

    def peak(self):
        """kB, of the largest worker."""
        return max((kb for samples in self._memory.values()
                    for _, kb in samples), default=0)


def anonymous_kb(pid):
    """Private memory of a process; 0: it has just ended."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0
