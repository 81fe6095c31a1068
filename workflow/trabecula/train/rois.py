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

from trabecula.model.bundle import Roi
from trabecula.model.network import cut_roi
from trabecula.runtime.whole_file import whole_file
from trabecula.tables.cubes import read_cubes, read_spacing_mm

KEYS = ("cohort", "patient_id", "study_id", "level")


def rois_schema(size: int) -> pa.Schema:
    """Schema of the file: a row per region, its keys and its voxels."""
    voxels = pa.fixed_shape_tensor(pa.float16(), [size] * 3)
    return pa.schema([*(pa.field(name, pa.string()) for name in KEYS), pa.field("hu", voxels)])


def write_regions(
    cubes: Iterable[Path | str],
    cases: pd.DataFrame,
    *,
    roi: Roi,
    path: Path | str,
    renamed: Mapping[tuple[str, str, str], str],
) -> None:
    """Cut the regions of the cases' chosen levels, and write them shard by shard, beside first, then renamed.

    Parameters
    ----------
    cubes : iterable of Path
        Files of vertebrae, as `crop` writes them; one study is held at a time, and one shard's regions.
    cases : DataFrame
        Columns cohort, study_id and levels.
    roi : Roi
        What the network sees.
    path : Path
        File to make. It is not compressed, so that it can be mapped into memory.
    renamed : mapping
        Levels that reviewers gave, see `cases.renamed`.

    Raises
    ------
    AssertionError
        If a chosen vertebra has no cube.
    """
    keys = zip(cases["cohort"], cases["study_id"], cases["levels"], strict=True)
    wanted = {(cohort, study, level) for cohort, study, levels in keys for level in levels}
    schema = rois_schema(roi.size)
    with whole_file(path) as unfinished, pa.ipc.new_file(unfinished, schema) as writer:
        for file in cubes:
            spacing_mm = read_spacing_mm(file)
            rows, regions = [], []
            for crop in read_cubes(file):
                found = (crop.cohort, crop.study_id, crop.level)
                level = renamed.get(found, crop.level)
                key = (crop.cohort, crop.study_id, level)
                if key in wanted:
                    wanted.remove(key)
                    rows.append([crop.cohort, crop.patient_id, crop.study_id, level])
                    regions.append(cut_roi(crop.ct, spacing_mm=spacing_mm, roi=roi))
            if rows:
                writer.write_batch(_batch(rows, regions, schema))
        if wanted:
            raise AssertionError(f"{len(wanted)} chosen vertebrae have no cube")


def _batch(rows: list[list[str]], regions: list[np.ndarray], schema: pa.Schema) -> pa.RecordBatch:
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
        self.keys = pd.concat(
            [
                pd.DataFrame(columns=list(KEYS), dtype=object),
                *(batch.select(list(KEYS)).to_pandas() for batch in batches),
            ],
            ignore_index=True,
        )
        self._parts = [_mapped(batch.column("hu")) for batch in batches]
        self._ends = np.cumsum([len(part) for part in self._parts]).tolist()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> Tensor:
        """(1, size, size, size) half-precision Hounsfield units: a view of the file, not to be written to."""
        place = bisect.bisect_right(self._ends, i)
        return self._parts[place][i - self._ends[place] + len(self._parts[place])][None]


def _mapped(column: pa.FixedShapeTensorArray) -> Tensor:
    """(n, size, size, size) tensor on the same memory."""
    with warnings.catch_warnings():
        # torch has no read-only tensors and says so; nothing here writes to a region.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(column.to_numpy_ndarray())
