"""Write the documentation of the tables: ``python -m trabecula.catalog docs/tables.md``."""

import sys
from pathlib import Path

from trabecula.catalog import dictionary, write_text

write_text(dictionary(), Path(sys.argv[1]))
