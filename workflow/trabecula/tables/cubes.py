"""Files of vertebrae, from `crop` to all later stages: Arrow IPC, a batch per study."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trabecula import tables
from trabecula.image.levels import CODE_OF_LEVEL
from trabecula.runtime.whole_file import whole_file


@dataclass(frozen=True)
class VertebraCrop:
    """One vertebra in its cube; axes are patient-aligned RAS+ (right, front, head).

    Attributes
    ----------
    cohort, patient_id, study_id : str
        Keys: cohort and pseudonyms.
    level : str
        Name of the level, such as ``L1``.
    level_confidence : float or None
        Confidence in that name, 0 to 1.
    level_uncertain : bool
        The level's name may be off by one.
    complete : bool
        The body lies wholly within the scan.
    centroid_mm : (3,) tuple
        Centre of the body, which is the cube's centre, in RAS+ millimetres.
    segmenter : str
        Backend and version that outlined it.
    ct : (size, size, size) array of int16
        Hounsfield units; -1024 outside the scan.
    label : (size, size, size) array of uint8
        Canonical codes (see `trabecula.image.levels`).
    level_flags : sequence of str
        Findings that speak against the name, keys of `errors.LEVEL_FLAGS`.
    """

    cohort: str
    patient_id: str
    study_id: str
    level: str
    level_confidence: float | None
    level_uncertain: bool
    complete: bool
    centroid_mm: tuple[float, float, float]
    segmenter: str
    ct: NDArray[np.int16]
    label: NDArray[np.uint8]
    level_flags: Sequence[str] = ()

    @property
    def code(self) -> int:
        """Code of this vertebra's body in `label`."""
        return CODE_OF_LEVEL[self.level]


@contextmanager
def open_cubes(path: Path | str, *, size: int, spacing_mm: float) -> Iterator[Callable[[Iterable[VertebraCrop]], None]]:
    """Open a file of cubes for writing (zstd); it gets its name when it is whole.

    Parameters
    ----------
    path : Path or str
        The file to make.
    size, spacing_mm
        Voxels along a cube's side, and their distance in millimetres.

    Yields
    ------
    callable
        Writes the vertebrae of one study; an empty list is fine.
    """
    schema, packed = tables.crop_schema(size, spacing_mm), pa.ipc.IpcWriteOptions(compression="zstd")
    with whole_file(path) as unfinished, pa.ipc.new_file(unfinished, schema, options=packed) as writer:

        def write(vertebrae: Iterable[VertebraCrop]) -> None:
            rows = list(vertebrae)
            if rows:
                writer.write_batch(to_batch(rows, schema))

        yield write


def to_batch(rows: list[VertebraCrop], schema: pa.Schema) -> pa.RecordBatch:
    """Turn vertebrae into a record batch of a schema that `tables.crop_schema` made."""
    x, y, z = zip(*(row.centroid_mm for row in rows), strict=True)
    values: dict[str, Any] = {"centroid_x_mm": x, "centroid_y_mm": y, "centroid_z_mm": z}
    arrays = []
    for field in schema:
        column = values.get(field.name) or [getattr(row, field.name) for row in rows]
        if isinstance(field.type, pa.FixedShapeTensorType):
            arrays.append(pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(column)))
        else:
            arrays.append(pa.array(column, field.type))
    return tables.cast(pa.Table.from_arrays(arrays, schema=schema), schema).combine_chunks().to_batches()[0]


def read_cubes(path: Path | str) -> Iterator[VertebraCrop]:
    """Read vertebrae one by one, in the order in which they were written; one study is held at a time."""
    with tables.reading(path), pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for i in range(reader.num_record_batches):
            yield from _from_batch(reader.get_batch(i))


def _from_batch(batch: pa.RecordBatch) -> Iterator[VertebraCrop]:
    tensors = {name: batch.column(name).to_numpy_ndarray() for name in ("ct", "label")}
    for i, row in enumerate(batch.drop_columns(list(tensors)).to_pylist()):
        centroid_mm = (row.pop("centroid_x_mm"), row.pop("centroid_y_mm"), row.pop("centroid_z_mm"))
        yield VertebraCrop(**row, centroid_mm=centroid_mm, **{name: cubes[i] for name, cubes in tensors.items()})


def read_spacing_mm(path: Path | str) -> float:
    """Read the distance between neighbouring voxels of a file's cubes, in millimetres."""
    with tables.reading(path), pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        return float(reader.schema.metadata[b"spacing_mm"])


def read_facts(path: Path | str) -> pa.Table:
    """Read all columns but the voxels: one row per vertebra, in the file's order."""
    with tables.reading(path), pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        columns = [i for i, field in enumerate(reader.schema) if not isinstance(field.type, pa.FixedShapeTensorType)]
    options = pa.ipc.IpcReadOptions(included_fields=columns)
    with tables.reading(path), pa.memory_map(str(path)) as source, pa.ipc.open_file(source, options=options) as reader:
        return reader.read_all()
