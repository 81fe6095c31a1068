"""Search for input that breaks a reader, led by the code that an input reaches (Atheris, libFuzzer).

    python tests/fuzz/campaign.py index --cases 100000 --folder scratch/fuzz
    python tests/fuzz/campaign.py index --replay scratch/fuzz/index/crash-...

Inputs that led to new code are kept in FOLDER/TARGET/corpus, and a later search begins with it.
"""

import argparse
import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "workflow"), str(HERE.parent / "helpers"), str(HERE)]

# In no lock, since it exists for Linux on x86-64 alone; `make fuzz` installs it.
atheris: Any = importlib.import_module("atheris")

with atheris.instrument_imports(include=["trabecula", "nibabel", "highdicom"]):
    import test_targets
    from targets import TARGETS

LARGEST_BYTES = 20_000


def main() -> None:
    """Search, or read one input again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path("scratch/fuzz"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="an input that a search has left")
    options = parser.parse_args()
    target_folder = options.folder.absolute() / options.target
    work, begin = target_folder / "work", target_folder / "begin"
    for folder in (work, begin):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    seeds, run = TARGETS[options.target](work)

    def read(data: bytes) -> None:
        test_targets.checked(options.target, run, work, data)

    if options.replay:
        read(options.replay.read_bytes())
        return
    for number, seed in enumerate(seeds):
        (begin / f"{number:03d}").write_bytes(seed)
    (target_folder / "corpus").mkdir(exist_ok=True)
    arguments = [f"-runs={options.cases}", f"-seed={options.seed}", "-timeout=0", "-rss_limit_mb=3000"]
    arguments += [
        f"-max_len={LARGEST_BYTES}",
        "-len_control=0",
        f"-artifact_prefix={target_folder}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *arguments, str(target_folder / "corpus"), str(begin)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
