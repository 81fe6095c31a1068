"""Write a synthetic archive: ``python -m trabecula.phantom OUT``."""

import argparse
from pathlib import Path

from trabecula.phantom import DEVICES, write_archive


def main() -> None:
    """Read the command line and write the archive."""
    parser = argparse.ArgumentParser(prog="python -m trabecula.phantom", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for archive/, labels.csv and truth.parquet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patients", type=int, default=30)
    parser.add_argument("--first-patient", type=int, default=0)
    development = [name for name, device in DEVICES.items() if not device.external]
    parser.add_argument("--devices", nargs="+", choices=list(DEVICES), default=development)
    parser.add_argument("--matrix", type=int, default=512, help="rows and columns of an image")
    parser.add_argument("--workers", type=int, default=2)
    options = vars(parser.parse_args())
    write_archive(options.pop("out"), **options)


if __name__ == "__main__":
    main()
