"""A stand-in for NVIDIA's library: C that gcc compiles, with the functions that are read and no others."""

import shutil
import subprocess
from pathlib import Path

import pytest

GPUS = "{97, 12ull << 30, 412500, 61}, {5, 1ull << 30, 90000, 35}"
HEAD = """
#include <string.h>
#include <stdio.h>
typedef struct { unsigned int gpu, memory; } rates_t;
typedef struct { unsigned long long total, free, used; } memory_t;
static struct { unsigned int busy; unsigned long long used; unsigned int milliwatts, celsius; } gpus[] = { %s };
static long place(void *handle) { return (long) handle - 1; }
"""
FUNCTIONS = {
    "nvmlInitWithFlags": "(unsigned int flags) { return 0; }",
    "nvmlInit_v2": "(void) { return 0; }",
    "nvmlShutdown": "(void) { return 0; }",
    "nvmlDeviceGetCount_v2": "(unsigned int *count) { *count = COUNT; return 0; }",
    "nvmlDeviceGetHandleByIndex_v2": "(unsigned int i, void **handle) { *handle = (void *) (long) (i + 1); return 0; }",
    "nvmlDeviceGetUtilizationRates": "(void *h, rates_t *r) { r->gpu = gpus[place(h)].busy; r->memory = 1; return 0; }",
    "nvmlDeviceGetMemoryInfo": "(void *h, memory_t *m) { m->total = 80ull << 30; m->used = gpus[place(h)].used; "
    "m->free = m->total - m->used; return 0; }",
    "nvmlDeviceGetTemperature": "(void *h, int sensor, unsigned int *t) { *t = gpus[place(h)].celsius; return 0; }",
    "nvmlDeviceGetPowerUsage": "(void *h, unsigned int *w) { *w = gpus[place(h)].milliwatts; return 0; }",
    "nvmlDeviceGetUUID": "(void *h, char *text, unsigned int size) { return snprintf(text, size, "
    '"GPU-00000000-0000-0000-0000-%012ld", place(h)) < 0; }',
    "nvmlDeviceGetName": '(void *h, char *text, unsigned int size) { return snprintf(text, size, "%s", NAME) < 0; }',
}
ERRORS = 'const char *nvmlErrorString(int code) { return code == 3 ? "Not Supported" : "Unknown Error"; }\n'
NOT_SUPPORTED = 3


def stand_in(folder: Path, *, count: int = 1, without: str | None = None, refuses: str | None = None) -> Path:
    """The folder with `libnvidia-ml.so.1` in it, for LD_LIBRARY_PATH.

    Args:
        count: GPUs, two at most.
        without: a function that the library lacks, as that of an old driver does.
        refuses: a function that answers "not supported", as that of some cards does.
    """
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: it compiles the stand-in for NVIDIA's library")
    body = [f"#define COUNT {count}", '#define NAME "Stand-in 80GB"', HEAD % GPUS, ERRORS]
    for name, text in FUNCTIONS.items():
        if name == without:
            continue
        said = f"{text[: text.index('{')]}{{ return {NOT_SUPPORTED}; }}" if name == refuses else text
        body.append(f"int {name}{said}")
    source = folder / "nvml.c"
    source.write_text("\n".join(body) + "\n")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(library), str(source)], check=True)
    return folder
