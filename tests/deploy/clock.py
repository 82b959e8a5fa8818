"""A clock that tests set, for whole families of processes: a library that stands before the C library's (LD_PRELOAD).

It moves what processes read as the time of day, PostgreSQL's included, by a shift that lies in one shared page: all of
them see a jump at once. What measures durations (monotonic clocks, sleeps, timeouts) goes on at its own pace.
"""

import os
import shutil
import struct
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

VARIABLE = "ATFT_CLOCK_OF_TESTS"
SOURCE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const volatile long long *shift; /* nanoseconds */
static const long long none;
static long long now(void) {
    if (!shift) {
        const char *path = getenv("ATFT_CLOCK_OF_TESTS");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *page = file < 0 ? MAP_FAILED : mmap(0, sizeof none, PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0) close(file);
        shift = page == MAP_FAILED ? &none : page;
    }
    struct timespec at;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &at);
    return at.tv_sec * 1000000000ll + at.tv_nsec + *shift;
}
int clock_gettime(clockid_t which, struct timespec *at) {
    if (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, which, at);
    long long found = now();
    at->tv_sec = found / 1000000000;
    at->tv_nsec = found % 1000000000;
    return 0;
}
int gettimeofday(struct timeval *at, void *zone) {
    (void) zone;
    long long found = now();
    at->tv_sec = found / 1000000000;
    at->tv_usec = found % 1000000000 / 1000;
    return 0;
}
time_t time(time_t *at) {
    time_t found = now() / 1000000000;
    if (at) *at = found;
    return found;
}
"""


class Clock:
    """The time of day of every process that is started with `environ`."""

    def __init__(self, folder: Path):
        """
        Args:
            folder: must be readable by whoever runs these processes, PostgreSQL's user too.
        """
        if shutil.which("gcc") is None:
            pytest.skip("gcc is not installed: it compiles the clock that tests set")
        source, self.library, self.page = folder / "clock.c", folder / "clock.so", folder / "clock"
        source.write_text(SOURCE)
        command = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(self.library), str(source)]
        subprocess.run(command, check=True)
        self.library.chmod(0o755)
        self._shift(0)
        self.page.chmod(0o644)

    @property
    def environ(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), VARIABLE: str(self.page)}

    def now(self) -> datetime:
        """What these processes take for the present."""
        (shift,) = struct.unpack("q", self.page.read_bytes())
        return datetime.fromtimestamp((time.time_ns() + shift) / 1e9, UTC)

    def set(self, at: datetime) -> None:
        """Let it be `at`, for all of them at once; from there it goes on."""
        self._shift(int(at.timestamp() * 1e9) - time.time_ns())

    def _shift(self, nanoseconds: int) -> None:
        file = os.open(self.page, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, struct.pack("q", nanoseconds), 0)  # in place: the page is mapped
        finally:
            os.close(file)
