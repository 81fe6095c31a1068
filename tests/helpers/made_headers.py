"""Headers and stacks of a plain CT, made by hand, and the default gates and weights of the index."""

from pathlib import Path

import yaml

from trabecula.dicom.headers.record import Header
from trabecula.dicom.identity import Identity
from trabecula.dicom.stacks import Stack
from trabecula.index import choose
from trabecula.runtime.config import with_defaults

SCHEMA = yaml.safe_load((Path(__file__).parents[2] / "workflow/schemas/config.schema.yaml").read_text())
# Options of the index; `watch` decides only when it runs.
DEFAULTS = {name: value for name, value in with_defaults({}, SCHEMA)["index"].items() if name != "watch"}
GATES = choose.Gates(**DEFAULTS["gates"], max_gap_mm=10)
WEIGHTS = choose.Weights(**DEFAULTS["score"])
CT = "1.2.840.10008.5.1.4.1.1.2"


def header(k: int = 0, **changes) -> Header:
    """Make the header of slice k of a CT without any fault."""
    plain = Header(
        path=f"{k:03d}",
        member=None,
        size=1,
        mtime_ns=1,
        positions_mm=[0.0, 0.0, 2.5 * k],
        orientation=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        pixel_spacing_mm=[0.8, 0.8],
        patient="P",
        study_uid="1.1",
        series_uid="1.1.1",
        instance_uid=f"1.1.1.{k}",
        sop_class=CT,
        modality="CT",
        image_type="ORIGINAL\\PRIMARY\\AXIAL",
        kernel="STANDARD",
        kvp=120.0,
        rows=512,
        columns=512,
        slope=1.0,
        intercept=-1024.0,
        study_date="20200102",
    )
    return plain._replace(**changes)


def stack(n: int = 60, spacing_mm: float = 2.5, **changes) -> Stack:
    slices = (header(k, positions_mm=[0.0, 0.0, spacing_mm * k]) for k in range(n))
    return Stack(Identity("P", "1.1", "1.1.1"), 0, tuple(part._replace(**changes) for part in slices))
