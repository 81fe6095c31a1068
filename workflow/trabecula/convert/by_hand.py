"""Convert one folder by hand: for debugging, and for comparing with other converters."""

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from trabecula.cohort.linked import Linked
from trabecula.cohort.pseudonym import SYNTHETIC_KEY
from trabecula.convert import convert_stack, failure_entries, volume_entries
from trabecula.dicom.files import as_text
from trabecula.dicom.geometry import is_thick
from trabecula.dicom.headers.record import Header, ListedFile
from trabecula.dicom.identity import with_own_uids
from trabecula.dicom.stacks import (
    Instances,
    Stack,
    defect_of,
    reason_against_image,
    sound_and_damaged,
    stacks_of,
    without_copies,
)
from trabecula.errors import StudyFailure
from trabecula.nifti.records import read_records
from trabecula.runtime.defaults import default_of
from trabecula.runtime.log import progress


def convert_folder(folder: Path, out: Path, *, form: str = "nii.gz") -> list[dict[str, Any]]:
    """Write every stack of slices below a folder that is a volume, whatever it shows.

    Anatomy, extent and values are no reason to refuse a stack; values that no patient can have are flagged. Gaps are
    bridged, and thick slices flagged, as by the defaults of the configuration.

    Parameters
    ----------
    folder : Path
        DICOM and NIfTI files, in folders or not.
    out : Path
        Where the volumes and ``convert.json`` go; made where it is absent.
    form : {"nii.gz", "nii"}
        Compressed or not.

    Returns
    -------
    list of dict
        Content of ``convert.json``: for each stack its file, status, reason, repairs, flags and geometry; and for each
        reason why files belong to no stack, their number. No identity is among it.
    """
    out.mkdir(parents=True, exist_ok=True)
    headers = with_own_uids(read_folder(folder))
    sound, damaged = sound_and_damaged(headers)
    instances = without_copies(sound)
    stacks = stacks_of(instances.kept, max_gap_mm=default_of("convert.max_gap_mm"), damaged=damaged)
    shown = progress(stacks, what="convert", unit="stacks", total=len(stacks))
    entries = [_converted(stack, instances, out / f"{number:03d}.{form}") for number, stack in enumerate(shown)]
    entries += _entries_without_stack(headers, sound, damaged, instances.copies)
    for entry in entries:
        del entry["slice_digests"]  # made with a public key: whoever has the scan could tell that it was here
    (out / "convert.json").write_text(json.dumps(entries, indent=2) + "\n")
    return entries


def read_folder(folder: Path) -> list[Header]:
    """Read the headers of all files below a folder, sorted, with full paths; a closed folder counts as a file."""
    top = str(folder)
    files, errors = [], []
    for place, _, names in os.walk(top, onerror=errors.append):
        below = os.path.relpath(place, top)
        for path in (os.path.normpath(f"{below}/{name}") for name in names):
            try:
                state = os.stat(f"{top}/{path}")
            except OSError:
                files.append(ListedFile(as_text(path), 0, 0, "link_outside"))
                continue
            if stat.S_ISREG(state.st_mode):
                files.append(ListedFile(as_text(path), state.st_size, state.st_mtime_ns))
            else:
                files.append(ListedFile(as_text(path), 0, 0, "not_regular"))
    files += [ListedFile(as_text(os.path.relpath(error.filename, top)), 0, 0, "closed_folder") for error in errors]
    headers = read_records(top, sorted(files), archives=True)
    return [header._replace(path=f"{top}/{header.path}") for header in headers]


def _converted(stack: Stack, instances: Instances, path: Path) -> dict[str, Any]:
    """Convert a stack to a file, and give its entry."""
    header = stack.first
    about = {
        "modality": header.modality,
        "image_type": header.image_type,
        "kernel": header.kernel,
        "acquisition": header.acquisition,
        "n_files": len(stack.files),
        "n_damaged": stack.n_damaged,
        "n_odd": stack.n_odd,
    }
    max_gap_mm, thick_mm = default_of("convert.max_gap_mm"), default_of("index.gates.thick_mm")
    try:
        reason = reason_against_image(stack)
        if reason:
            raise StudyFailure(reason)
        copies = [(stack.headers[n], copy) for n, copy in instances.repeats(stack.headers)]
        linked = Linked(list(stack.headers), stack.n_damaged, stack.n_odd, copies)
        converted = convert_stack(linked, path, max_gap_mm=max_gap_mm, key=SYNTHETIC_KEY, any_values=True)
    except StudyFailure as failure:
        return {"file": None, **failure_entries(failure), **about}
    entry = {"file": path.name, **volume_entries(converted), **about}
    entry["flags"] += stack.flags + ["thick_slices"] * is_thick(converted.spacing_mm[2], thick_mm)
    return entry


def _entries_without_stack(
    headers: list[Header], sound: list[Header], damaged: list[Header], copies: list[Header]
) -> list[dict[str, Any]]:
    """Count the files that belong to no stack, an entry for each reason."""
    in_series = {id(header) for header in (*sound, *damaged)}
    n_files = Counter(defect_of(header) for header in headers if id(header) not in in_series)
    n_files.update(["duplicate_file"] * len(copies))
    return [
        {"file": None, **failure_entries(StudyFailure(str(reason))), "n_files": n}
        for reason, n in sorted(n_files.items(), key=str)
    ]
