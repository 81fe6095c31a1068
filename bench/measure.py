"""Shared parts of the benchmarks: the cost of child processes, tables, and the description of the machine."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

MB = 1e6
# Libraries that would spread over all cores get one, so that CPU-seconds and wall time mean the same for everyone.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
_CHILD = "child"
_TICK_S = 0.001  # less is nothing

Command = Sequence[str]
# Imports the packages of a contender, and gives its work as a function.
Loader = Callable[[], Callable[..., object]]


@dataclass(frozen=True)
class Cost:
    """Cost of child processes that run one after another.

    Attributes
    ----------
    cpu_s : float
        User and system time, of their children too.
    work_s : float
        Part of `cpu_s` that is left without start, imports and end of a Python process; all of it for other programs.
    wall_s : float
        Time that passed.
    peak_mb : float
        Largest resident memory of any one process.
    imports_mb : float
        Largest resident memory before the work began; 0 for other programs.
    """

    cpu_s: float
    work_s: float
    wall_s: float
    peak_mb: float
    imports_mb: float = 0.0


@dataclass(frozen=True)
class Contender:
    """A program or package to be measured.

    Attributes
    ----------
    name : str
        Its name in the table.
    commands : list of command
        They run one after another.
    out : Path or None
        Folder that is emptied before every run.
    """

    name: str
    commands: Sequence[Command]
    out: Path | None = None


@dataclass(frozen=True)
class Figures:
    """Costs of a contender's runs, and their medians; see `Cost`."""

    runs: list[Cost] = field(default_factory=list)

    @property
    def work_s(self) -> float:
        """Give the median CPU time without imports."""
        return statistics.median(run.work_s for run in self.runs)

    @property
    def wall_s(self) -> float:
        """Give the median wall time."""
        return statistics.median(run.wall_s for run in self.runs)

    @property
    def peak_mb(self) -> float:
        """Give the median peak memory."""
        return statistics.median(run.peak_mb for run in self.runs)

    def cpu(self) -> str:
        """Write the CPU time of the whole process, with lowest and highest."""
        return _spread([run.cpu_s for run in self.runs])

    def work(self) -> str:
        """Write the CPU time without imports, with lowest and highest."""
        return _spread([run.work_s for run in self.runs])

    def peak(self) -> str:
        """Write the peak memory, and in brackets the peak before the work began."""
        imports = statistics.median(run.imports_mb for run in self.runs)
        return f"{self.peak_mb:.0f}" + (f" ({imports:.0f})" if imports else "")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def ratio(figures: Figures, other: Figures, *, whole: bool = False) -> float:
    """Give the CPU time as a multiple of the other contender's.

    It is the median over turns, since contenders of one turn met the same disturbances. With `whole` the imports count
    too.
    """
    pairs = [
        (a.cpu_s, b.cpu_s) if whole else (a.work_s, b.work_s) for a, b in zip(figures.runs, other.runs, strict=True)
    ]
    return statistics.median(a / max(b, _TICK_S) for a, b in pairs)


# --- child processes -------------------------------------------------------------------------------------


def child(script: str, name: str, *arguments: object, first: Sequence[object] = ()) -> list[str]:
    """Give the command that runs a loader of a benchmark, see `is_child`.

    `first` are arguments of something small to be done before the work is measured: libraries import much of themselves
    when they are used for the first time, and that belongs to the imports.
    """
    return [sys.executable, script, _CHILD, name, str(len(first)), *map(str, [*first, *arguments])]


def is_child(loaders: Mapping[str, Loader]) -> bool:
    """Tell whether this is a child process; if it is, do its work and print its cost and its result."""
    if sys.argv[1:2] != [_CHILD]:
        return False
    work, n_first, arguments = loaders[sys.argv[2]](), int(sys.argv[3]), sys.argv[4:]
    if n_first:
        work(*arguments[:n_first])
    before, peak = _cpu_s(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = work(*arguments[n_first:])
    answer = {"work_s": _cpu_s() - before, "imports_mb": peak * 1024 / MB, "result": result}
    print("\n" + json.dumps(answer))
    return True


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def on_one_core() -> None:
    """Keep this process and its children on one core, with one thread per library."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))


def ask(command: Command) -> Any:
    """Run a loader's work and give its result; its cost is not measured."""
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])["result"]


def cost_of(commands: Iterable[Command]) -> Cost:
    """Run commands one after another.

    Raises
    ------
    RuntimeError
        If one fails.
    """
    costs = [_cost_of_one(command) for command in commands]
    return Cost(
        sum(cost.cpu_s for cost in costs),
        sum(cost.work_s for cost in costs),
        sum(cost.wall_s for cost in costs),
        max(cost.peak_mb for cost in costs),
        max(cost.imports_mb for cost in costs),
    )


def _cost_of_one(command: Command) -> Cost:
    # A new process counts the memory of the one that it was started from until it is itself: nothing large may be
    # imported or made in the benchmark's own process.
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begun
        if process.returncode:
            raise RuntimeError(f"{command} failed:\n{_text(errors)}")
        answer = json.loads(_text(output).splitlines()[-1]) if _CHILD in command[:3] else {}
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(cpu, answer.get("work_s", cpu), wall, usage.ru_maxrss * 1024 / MB, answer.get("imports_mb", 0.0))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def measured(contenders: Sequence[Contender], repeats: int) -> dict[str, Figures]:
    """Measure contenders by turns, so that other load on the machine meets all of them."""
    figures_of = {contender.name: Figures() for contender in contenders}
    for turn in range(repeats):
        for contender in contenders:
            print(f"{turn + 1} of {repeats}: {contender.name}", file=sys.stderr)
            if contender.out is not None:
                shutil.rmtree(contender.out, ignore_errors=True)
                contender.out.mkdir(parents=True)
            figures_of[contender.name].runs.append(cost_of(contender.commands))
    return figures_of


def warm(folder: Path) -> None:
    """Read all files once, so that no contender waits for the disk, and let the disk finish earlier writes."""
    os.sync()
    block = bytearray(1 << 20)
    for top, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(top, name), "rb", buffering=0) as file:
                while file.readinto(block):
                    pass


# --- the report ------------------------------------------------------------------------------------------


def is_installed(module: str) -> bool:
    """Tell whether a module could be imported."""
    return importlib.util.find_spec(module) is not None


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Write the lines of a Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def machine(packages: Iterable[str]) -> list[str]:
    """Describe the machine, and the versions of packages or that they are absent."""
    versions = [f"Python {platform.python_version()}", *map(_version, packages)]
    busy = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    cores = f"{os.cpu_count()} cores ({len(os.sched_getaffinity(0))} used)"
    return [
        f"- Machine: {_processor()}, {cores}, {_memory_gb():.0f} GB; {platform.system()} {platform.release()}",
        f"- Load over the last 1, 5 and 15 minutes at the end: {busy}",
        f"- Versions: {', '.join(versions)}",
        f"- Peaks below {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB:.0f} MB, which the benchmark "
        "itself takes, can't be seen.",
    ]


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} absent"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def publish(lines: Sequence[str], out: Path | None) -> None:
    """Print lines, and write them to a file if one is given."""
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if out is not None:
        out.write_text(text)
