"""Report the cost of every Python process, and of its imports, at its end; a benchmark puts this on PYTHONPATH."""

import atexit
import builtins
import json
import os
import resource
import sys
import time

_FOLDER = os.environ["TRABECULA_BENCH"]
_PROCESS = os.getpid()
_BEGUN = time.perf_counter()
_import = builtins.__import__
_imports_s, _depth = 0.0, 0


def _counted(*arguments, **named):
    global _imports_s, _depth
    if _depth:
        return _import(*arguments, **named)
    _depth, before = 1, time.process_time()
    try:
        return _import(*arguments, **named)
    finally:
        _depth, _imports_s = 0, _imports_s + time.process_time() - before


def _report() -> None:
    if os.getpid() != _PROCESS:  # a child that was forked: its parent counts it
        return
    this_process, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    report = {
        "program": sys.orig_argv[1:],
        "start_s": _start_s,
        "imports_s": _imports_s,
        "own_s": this_process.ru_utime + this_process.ru_stime,
        "system_s": this_process.ru_stime + children.ru_stime,
        "children_s": children.ru_utime + children.ru_stime,
        "wall_s": time.perf_counter() - _BEGUN,
        "peak_mb": max(this_process.ru_maxrss, children.ru_maxrss) * 1024 / 1e6,
    }
    with open(os.path.join(_FOLDER, f"{_PROCESS}.json"), "w") as file:
        json.dump(report, file)


builtins.__import__ = _counted
atexit.register(_report)
_start_s = time.process_time()
