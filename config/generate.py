"""Write config/README.md, the list of options, from the schema that owns them.

Run with workflow/ on the path: `make generated`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trabecula.runtime.config import COHORT_COLUMNS, in_words
from trabecula.runtime.csv_lines import LABEL_COLUMNS

HOME = Path(__file__).parent.parent
SCHEMA, PAGE = HOME / "workflow/schemas/config.schema.yaml", HOME / "config/README.md"

INTRODUCTION = f"""\
# Configuration

Made by `config/generate.py` from `workflow/schemas/config.schema.yaml`, which owns every option; edit the schema,
not this page.

- `config.yaml` holds the settings of the demonstration. Every option has a default, so the file names only the options
  that differ. `snakemake --configfile FILE` overrides it, option by option, by another file. Override
  single options with `snakemake --config cohorts=my/cohorts.tsv` or `--config index='{{shard_size: 32}}'`.
- `cohorts.tsv` has a line per cohort, with tabs between the columns {", ".join(COHORT_COLUMNS)}. A role is
  `development` (trains and is cross-validated), `external` (independent test) or `screening` (no labels needed). Labels
  may be empty.
- A file of labels is a CSV in UTF-8 with the columns {", ".join(LABEL_COLUMNS)}: the hospital's
  patient id, the date of the QCT as YYYY-MM-DD, a level such as L1 or, for a mean, L1-L2, a number, and
  `mg/cm3 HA` or `mg/cm3 K2HPO4`. Other columns are not read; [docs/labels.md](../docs/labels.md) lists the reasons
  why a line can't be used.
- An unknown option, a wrong type, a missing archive or an unreadable file of labels stops the run before any job.
"""

HEAD = "\n| option | takes | default | meaning |\n|---|---|---|---|\n"


def page(schema: Mapping[str, Any]) -> str:
    """Write the page: a table of the options at the top, and a table for each section."""
    return INTRODUCTION + "\n## At the top\n" + HEAD + _rows(schema) + _sections(schema, "")


def _rows(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    return "".join(
        f"| `{name}` | {in_words(option)} | {_default(name, option, required)} | {option['description']} |\n"
        for name, option in schema["properties"].items()
        if option.get("type") != "object"
    )


def _default(name: str, option: Mapping[str, Any], required: list[str]) -> str:
    return "must be given" if name in required else f"`{json.dumps(option['default'])}`"


def _sections(schema: Mapping[str, Any], above: str) -> str:
    """Write the tables of the sections and of the sections in them, one below the other."""
    text = ""
    for name, option in schema.get("properties", {}).items():
        if option.get("type") != "object":
            continue
        entry = option.get("additionalProperties")
        title, inner = (f"{above}{name}", option) if not entry else (f"{above}{name}.NAME", entry)
        text += f"\n## `{title}`\n\n{option['description']}\n" + HEAD + _rows(inner) + _sections(inner, f"{title}.")
    return text


if __name__ == "__main__":
    PAGE.write_text(page(yaml.safe_load(SCHEMA.read_text())))
