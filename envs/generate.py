"""Write the files that follow from the locks: envs/trabecula.yaml and THIRD_PARTY.md.

Run in the environment that the locks describe, since the licences are read from the installed packages.
"""

import re
from email.message import Message
from importlib.metadata import metadata
from pathlib import Path
from typing import cast

HOME = Path(__file__).parent.parent
LOCK, DEV_LOCK = HOME / "envs/requirements.txt", HOME / "envs/requirements-dev.txt"
CONDA, THIRD_PARTY = HOME / "envs/trabecula.yaml", HOME / "THIRD_PARTY.md"

# Packages whose metadata don't say it, or say something else than the licence file that they ship or their repository.
READ_BY_HAND = {
    "axe-playwright-python": "MIT; the axe-core in it: MPL-2.0",
    "conda-inject": "MIT",
    "dipy": "BSD-3-Clause",
    "docutils": "Public Domain, BSD-2-Clause, PSF-2.0; GPL for an Emacs mode that is not used",
    "dynamic_network_architectures": "Apache-2.0",
    "snakemake-interface-common": "MIT",
    "snakemake-interface-logger-plugins": "MIT",
    "snakemake-interface-report-plugins": "MIT",
    "snakemake-interface-scheduler-plugins": "MIT",
    "snakemake-interface-storage-plugins": "MIT",
}


def pins(lock: Path) -> dict[str, str]:
    """Read the version of every package that a lock pins, by name."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", lock.read_text(), flags=re.MULTILINE))


def conda_yaml(locked: dict[str, str]) -> str:
    """Write the Conda environment whose pip section is the lock."""
    listed = "".join(f"      - {name}=={version}\n" for name, version in locked.items())
    return (
        "# Made by envs/generate.py from envs/requirements.txt, for `snakemake --sdm conda`.\n"
        "# A test holds the two equal. The conda solve itself has not been run.\n"
        "channels:\n  - conda-forge\n  - nodefaults\n"
        f"dependencies:\n  - python=3.11\n  - pip\n  - pip:\n{listed}"
    )


def licence(package: Message) -> str:
    """Read the licence as a package states it: SPDX expression, else a short text, else its classifiers."""
    name, text = package["Name"], (package.get("License") or "").strip()
    if name in READ_BY_HAND:
        return READ_BY_HAND[name]
    if expression := package.get("License-Expression"):
        return expression
    classifiers = [line.split(" :: ")[-1] for line in package.get_all("Classifier") or [] if line.startswith("License")]
    if classifiers and not (text and len(text) < 30 and text != "UNKNOWN"):
        return ", ".join(classifiers)
    return text.splitlines()[0] if text else "not stated"


def third_party(locked: dict[str, str], tools: dict[str, str]) -> str:
    """Write the page with the licence of every package that the locks pin."""
    return (
        "# Licences of what is installed\n\n"
        "Made by `envs/generate.py` from the metadata of the installed packages; none of them is part of this\n"
        "repository. Trabecula itself is under the Apache License 2.0 (see LICENSE).\n"
        f"\n## The workflow\n\n{_table(locked)}\n## Test tools\n\n{_table(tools)}"
    )


def _table(locked: dict[str, str]) -> str:
    lines = [f"| {name} | {version} | {licence(cast(Message, metadata(name)))} |\n" for name, version in locked.items()]
    return "| package | version | licence |\n|---|---|---|\n" + "".join(lines)


if __name__ == "__main__":
    CONDA.write_text(conda_yaml(pins(LOCK)))
    THIRD_PARTY.write_text(third_party(pins(LOCK), pins(DEV_LOCK)))
