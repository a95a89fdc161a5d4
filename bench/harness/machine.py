"""The machine: what it is, and what a flush to its disk costs."""

import os
import platform
import statistics
import tempfile
import time

BLOCK = b"\0" * 8192
FILE_BLOCKS = 256


def cpu_model():
    with open("/proc/cpuinfo") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def cores():
    return len(os.sched_getaffinity(0))


def kernel():
    return f"{platform.system()} {platform.release()}"


def load_average():
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def fdatasync_ms(directory, rounds):
    """
    Median milliseconds of writing 8 kB over existing blocks, as WAL is
    written, and waiting for them with fdatasync.
    """
    samples = []
    with tempfile.TemporaryFile(dir=directory) as file:
        descriptor = file.fileno()
        for block in range(FILE_BLOCKS):
            os.pwrite(descriptor, BLOCK, block * len(BLOCK))
        os.fsync(descriptor)
        for round_number in range(rounds):
            offset = round_number % FILE_BLOCKS * len(BLOCK)
            before = time.perf_counter()
            os.pwrite(descriptor, BLOCK, offset)
            os.fdatasync(descriptor)
            samples.append(time.perf_counter() - before)
    return statistics.median(samples) * 1000
