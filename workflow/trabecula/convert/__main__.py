"""Convert one folder by hand: ``python -m trabecula.convert FOLDER OUT``."""

import argparse
from pathlib import Path

from trabecula.convert.by_hand import convert_folder


def main() -> None:
    """Convert a folder and print what became of each stack."""
    about = "Write every stack of CT slices below a folder as NIfTI, with convert.json beside them."
    parser = argparse.ArgumentParser(prog="python -m trabecula.convert", description=about)
    parser.add_argument("folder", type=Path, help="DICOM files, in folders or not")
    parser.add_argument("out", type=Path, help="where the volumes and convert.json go")
    parser.add_argument("--format", choices=["nii.gz", "nii"], default="nii.gz", help="compressed or not")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error("FOLDER is not a folder that can be read")
    entries = convert_folder(options.folder, options.out, form=options.format)
    for entry in entries:
        remarks = " ".join(entry["repairs"] + entry["flags"])
        if entry["file"]:
            shape = " x ".join(map(str, entry["shape"]))
            print(f"{entry['file']}: {shape} voxels of {_mm(entry['spacing_mm'])} mm  {remarks}".rstrip())
        else:
            print(f"refused, {entry['n_files']} files: {entry['reason']}  {entry['detail'] or ''}".rstrip())
    print(f"What became of each: {options.out / 'convert.json'}")


def _mm(spacing: list[float]) -> str:
    return " x ".join(f"{length:.3g}" for length in spacing)


if __name__ == "__main__":
    main()
