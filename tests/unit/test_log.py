"""Messages of a job that crashes, and the place where they are written."""

import subprocess
import sys
from pathlib import Path

from trabecula.runtime import log

NAME = "DOE^JANE"
JOB = """
import sys
sys.path.append({package!r})
from trabecula.errors import ConfigError
from trabecula.runtime.log import to_log

to_log("logs/a.log", private={private!r})

def read(name):
    try:
        open("/archive/" + name)
    except OSError as error:
        raise {error} from error

for name in open("names"):
    read(name)
"""


def run(folder: Path, *, error: str = "KeyError(name)", private: str | None = "private", names: str = NAME) -> str:
    """Let a job crash at the first name that it reads; returns its log."""
    (folder / "names").write_text(names)
    text = JOB.format(package=str(Path(log.__file__).parents[2]), error=error, private=private)
    done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (int(bool(names)), "", "")
    return (folder / "logs/a.log").read_text()


def test_a_crash_of_a_job_that_reads_identities_tells_where_but_quotes_nothing(tmp_path):
    said = run(tmp_path)
    assert NAME not in said
    for part in ("FileNotFoundError: [Errno 2] No such file or directory", "KeyError: (message withheld)", "in read"):
        assert part in said
    whole = tmp_path / "private/logs/a.log"
    assert f"lies in {whole.relative_to(tmp_path)}" in said
    assert f"KeyError: '{NAME}'" in whole.read_text()
    assert whole.stat().st_mode & 0o777 == 0o600
    run(tmp_path, names="")
    assert not whole.exists()


def test_the_packages_own_errors_say_what_to_do(tmp_path):
    assert "ConfigError: Give another one." in run(tmp_path, error="ConfigError('Give another one.')")


def test_a_warning_reaches_the_terminal_and_the_log(tmp_path):
    package = str(Path(log.__file__).parents[2])
    text = f"import sys; sys.path.append({package!r}); from trabecula.runtime import log; log.to_log('a.log'); "
    text += "log.warn('Half of it is gone.')"
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "Warning: Half of it is gone.\n")
    assert "WARNING" in (tmp_path / "a.log").read_text() and "Half of it is gone." in (tmp_path / "a.log").read_text()


def test_a_job_that_reads_no_identities_tells_all(tmp_path):
    assert f"KeyError: '{NAME}'" in run(tmp_path, private=None)
