"""The file of regions that networks are trained on: Arrow, memory-mapped, given to torch without a copy."""

import bisect
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from trabecula.cohort.current import CurrentStudies
from trabecula.model.bundle import Roi
from trabecula.model.network import cut_roi
from trabecula.runtime.whole_file import whole_file
from trabecula.tables.cubes import read_cubes, read_spacing_mm

PATIENT = ["cohort", "patient_id"]
VERTEBRA = [*PATIENT, "study_id", "level"]


def rois_schema(size: int) -> pa.Schema:
    """Give the schema of the file: a row per region, its keys and its voxels."""
    voxels = pa.fixed_shape_tensor(pa.float16(), [size] * 3)
    return pa.schema([*(pa.field(name, pa.string()) for name in VERTEBRA), pa.field("hu", voxels)])


def write_regions(
    cubes: Iterable[Path | str],
    cases: pd.DataFrame,
    *,
    current: CurrentStudies,
    roi: Roi,
    path: Path | str,
    renamed: Mapping[tuple[str, str, str], str],
) -> None:
    """Cut the regions of the cases' chosen levels, and write them shard by shard, beside first, then renamed.

    Parameters
    ----------
    cubes : iterable of Path
        Files of vertebrae, as `crop` writes them; one study's cubes and one shard's regions are held in memory.
    cases : DataFrame
        Columns cohort, study_id and levels.
    current : CurrentStudies
        Studies by the shard that they belong to.
    roi : Roi
        Size of the region, see `bundle.Roi`.
    path : Path
        File to make. It is not compressed, so that it can be mapped into memory.
    renamed : mapping
        Levels that reviewers gave, see `cases.renamed_levels`.

    Raises
    ------
    AssertionError
        If a chosen vertebra has no cube.
    """
    studies = zip(cases["cohort"], cases["study_id"], cases["levels"], strict=True)
    missing = {(cohort, study, level) for cohort, study, levels in studies for level in levels}
    schema = rois_schema(roi.size)
    with whole_file(path) as unfinished, pa.ipc.new_file(unfinished, schema) as writer:
        for file in cubes:
            spacing_mm = read_spacing_mm(file)
            rows, regions, of_shard = [], [], current.of_file(file)
            for crop in read_cubes(file):
                level = renamed.get((crop.cohort, crop.study_id, crop.level), crop.level)
                vertebra = (crop.cohort, crop.study_id, level)
                if crop.study_id in of_shard and vertebra in missing:
                    missing.remove(vertebra)
                    rows.append([crop.cohort, crop.patient_id, crop.study_id, level])
                    regions.append(cut_roi(crop.ct, spacing_mm=spacing_mm, roi=roi))
            if rows:
                writer.write_batch(_batch(rows, regions, schema))
        if missing:
            raise AssertionError(f"{len(missing)} chosen vertebrae have no cube")


def _batch(rows: list[list[str]], regions: list[np.ndarray], schema: pa.Schema) -> pa.RecordBatch:
    """Put the keys and voxels of a shard's regions together, as rows of `rois_schema`."""
    keys = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(
        [*keys, pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(regions))], schema=schema
    )


class Regions:
    """Regions of a file that `write_regions` made, in the file's order.

    The voxels stay in the file, which is mapped into memory: a region is a view of it, so that memory does not grow
    with the number of patients.

    Attributes
    ----------
    keys : DataFrame
        Columns cohort, patient_id, study_id and level.
    """

    def __init__(self, path: Path | str) -> None:
        self._source = pa.memory_map(str(path))
        reader = pa.ipc.open_file(self._source)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        no_rows = pd.DataFrame(columns=VERTEBRA, dtype=object)
        self.keys = pd.concat([no_rows, *(batch.select(VERTEBRA).to_pandas() for batch in batches)], ignore_index=True)
        self._parts = [_mapped(batch.column("hu")) for batch in batches]
        self._ends = np.cumsum([len(part) for part in self._parts]).tolist()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> Tensor:
        """Give (1, size, size, size) half-precision Hounsfield units: a view of the file, not to be written to."""
        place = bisect.bisect_right(self._ends, i)
        return self._parts[place][i - self._ends[place] + len(self._parts[place])][None]


def _mapped(column: pa.FixedShapeTensorArray) -> Tensor:
    """Give an (n, size, size, size) tensor on the same memory."""
    with warnings.catch_warnings():
        # torch has no read-only tensors and says so; nothing here writes to a region.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(column.to_numpy_ndarray())
