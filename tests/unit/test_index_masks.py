"""Label maps that come, go or change are noticed by content, study by study, whatever their times."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from trabecula import tables
from trabecula.cohort import label_maps
from trabecula.cohort.label_maps import note
from trabecula.cohort.linkage import LINKAGE
from trabecula.cohort.private import write_private
from trabecula.errors import PASSING, ConfigError, ResultError, StudyFailure
from trabecula.index import masks
from trabecula.runtime.signature import signature_of_files

STUDIES = {"st1": ("1.2.1", "00000"), "st2": ("1.2.2", "00000"), "st3": ("1.2.3", "00001")}
# A study of the first shard that has moved on since, and one that is not in the private table.
MOVED = "st4"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with label maps of two of three studies, and what the index and segment left."""
    for uid in ("1.2.1", "1.2.3"):
        write(tmp_path / f"maps/{uid}.nii", f"labels of {uid}")
    rows = [
        {"study_id": study, "study_uid": uid, "shard": shard, "slices": [{"path": "x"}]}
        for study, (uid, shard) in STUDIES.items()
    ]
    rows.append({"study_id": MOVED, "study_uid": "1.2.4", "shard": "00007", "slices": [{"path": "x"}]})
    write_private(pa.Table.from_pylist(rows, LINKAGE), tmp_path / "linkage.parquet")
    segment(tmp_path)
    return tmp_path


def write(path: Path, text: str, *, seconds: int = 1_000_000_000) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (seconds, seconds))


def pattern(site: Path) -> str:
    return f"{site}/maps/{{study_instance_uid}}.nii"


def segment(site: Path, **facts: str) -> None:
    """Write what segment notes of every study; a failed one has a row too."""
    plain = {"status": "ok", "level_flags": [], "segmenter": "masks"} | facts
    for shard in ("00000", "00001"):
        rows = []
        for study, (uid, _) in (STUDIES | {MOVED: ("1.2.4", "00000")}).items():
            if (STUDIES | {MOVED: ("", "00000")})[study][1] != shard:
                continue
            noted = note(site / f"maps/{uid}.nii")
            seen = {"mask_state": noted.state, "mask_digest": noted.digest} if noted else {"reason": "mask_missing"}
            keys = {"cohort": "c", "patient_id": "pa", "study_id": study}
            rows += [dict.fromkeys(tables.SEGMENT.names) | plain | keys | seen] * 2
        tables.write(rows, tables.SEGMENT, site / f"{shard}.parquet")


def changed(site: Path) -> dict[str, str]:
    return masks.changed(pattern(site), sorted(site.glob("*0?.parquet")), site / "linkage.parquet")


def test_nothing_is_to_be_done_while_nothing_changes(site):
    before = signature_of_files(pattern(site))
    assert changed(site) == {}
    assert signature_of_files(pattern(site)) == before


def test_a_label_map_that_comes_is_of_its_study_alone(site):
    before = signature_of_files(pattern(site))
    write(site / "maps/1.2.2.nii", "new", seconds=1)
    assert changed(site) == {"st2": "00000"}
    assert signature_of_files(pattern(site)) != before


@pytest.mark.parametrize("seconds", [1, 2_000_000_000])
def test_a_label_map_that_is_replaced_is_noticed_with_an_older_time_too(site, seconds):
    before = signature_of_files(pattern(site))
    write(site / "maps/1.2.3.nii", "labels of 9.9.9", seconds=seconds)  # as long as the former one
    assert changed(site) == {"st3": "00001"}
    assert signature_of_files(pattern(site)) != before


def test_a_label_map_that_goes_is_missed(site):
    (site / "maps/1.2.1.nii").unlink()
    assert changed(site) == {"st1": "00000"}


def test_label_maps_that_were_only_copied_are_the_same(site):
    for path in (site / "maps").iterdir():
        shutil.copy(path, site / "copy")  # with the time of now
        (site / "copy").replace(path)
    assert changed(site) == {}


def test_a_label_map_that_may_not_be_read_concerns_its_study_alone(site, monkeypatch):
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    os.utime(site / "maps/1.2.1.nii", (2, 2))
    monkeypatch.setattr(label_maps, "content_digest", refuse)
    assert changed(site) == {"st1": "00000"}
    with pytest.raises(StudyFailure) as failure:
        note(site / "maps/1.2.1.nii")
    assert failure.value.reason in PASSING and "maps" not in str(failure.value)  # tried again, and no path is told


def test_without_any_label_map_the_job_stops(site):
    shutil.rmtree(site / "maps")
    with pytest.raises(ConfigError, match=r"segment\.masks"):
        changed(site)


def test_what_a_network_segmented_waits_for_no_label_map(site):
    for path in (site / "maps").iterdir():
        path.unlink()
    segment(site, reason="no_vertebra", segmenter="builtin")
    rows = [row | {"reason": None} for row in tables.read(site / "00000.parquet", tables.SEGMENT).to_pylist()]
    tables.write(rows, tables.SEGMENT, site / "00000.parquet")
    (site / "00001.parquet").unlink()
    for uid in ("1.2.1", "1.2.2", "1.2.3"):
        write(site / f"maps/{uid}.nii", "new")
    assert changed(site) == {}


def test_a_table_of_other_code_is_passed_over_and_a_damaged_one_is_named(site):
    write(site / "maps/1.2.2.nii", "new")
    table = tables.read_columns(site / "00000.parquet").drop_columns("mask_state")
    write_private(table, site / "00000.parquet")
    assert changed(site) == {}
    (site / "00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultError, match=r"00001\.parquet is damaged"):
        changed(site)


def test_a_signature_is_of_the_files_that_fit_the_pattern(tmp_path):
    kinds = f"{tmp_path}/[a]/{{cohort}}/{{study_id}}-x.nii"
    before = signature_of_files(kinds)
    for name in ("[a]/c/st1.nii", "a/c/st1-x.nii", "[a]/st1-x.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("other")
    assert signature_of_files(kinds) == before
    (tmp_path / "[a]/c/st1-x.nii").symlink_to("nowhere")
    dangling = signature_of_files(kinds)
    (tmp_path / "[a]/c/nowhere").write_text("labels")
    assert len({before, dangling, signature_of_files(kinds)}) == 3
