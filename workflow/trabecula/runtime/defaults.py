"""Defaults of single options, for what runs without a configuration.

They stand apart from `config`, whose checks no stage needs: a stage that asks for a default would else run again
whenever a check is edited (see `digest`).
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml


def default_of(option: str) -> Any:
    """Give the default of an option, from the schema of the configuration.

    >>> default_of("convert.file_format")
    'nii.gz'
    """
    part = _schema()
    for name in option.split("."):
        part = part["properties"][name]
    return part["default"]


@cache
def _schema() -> dict[str, Any]:
    path = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"
    # Every convert by hand waits for this, and the loader in C takes a seventh of the time.
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
