"""What an index finds, chooses, keeps and hides."""

import os
import random
import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest
import yaml
from ct_files import axial_stack, save, save_all
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from trabecula import index, tables
from trabecula.cohort import linkage, shards
from trabecula.dicom.attributes import quiet
from trabecula.dicom.files import as_path
from trabecula.dicom.headers import read as header_files
from trabecula.dicom.headers.by_pydicom import read_by_pydicom
from trabecula.dicom.headers.parse import Doubt
from trabecula.dicom.headers.quick import read_quickly
from trabecula.dicom.headers.read import read_headers
from trabecula.dicom.headers.record import FILES, Header, ListedFile, Source, as_table, failed
from trabecula.dicom.stacks import Identity, Stack, stacks_of, without_copies
from trabecula.errors import ConfigError
from trabecula.index import choose, facts, rows, scan
from trabecula.runtime.config import with_defaults
from trabecula.runtime.signature import signature

SCHEMA = yaml.safe_load((Path(__file__).parents[2] / "workflow/schemas/config.schema.yaml").read_text())
DEFAULTS = with_defaults({}, SCHEMA)["index"]
GATES = choose.Gates(**DEFAULTS["gates"], max_gap_mm=10)
WEIGHTS = choose.Weights(**DEFAULTS["score"])
CT = "1.2.840.10008.5.1.4.1.1.2"


def header(k: int = 0, **changes) -> Header:
    """Slice k of a CT that nothing speaks against."""
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


def places(folder: Path, archive: Path, labels: Path | None = None) -> index.Cohort:
    # No sign in a path may mean anything to those who read it.
    return index.Cohort("test", False, archive, labels, folder / "results/test", folder / "it's [pri]*vate?")


def run(where: index.Cohort, **changes) -> None:
    gates = DEFAULTS["gates"] | {"min_slices": 4, "min_extent_mm": 10}
    options = DEFAULTS | {"shard_size": 2, "workers": 1, "gates": gates, "max_gap_mm": 10}
    index.index_cohort(where, scheduler=None, **options | changes)


def read(where: index.Cohort, name: str) -> list[dict]:
    return tables.read(where.public / f"index/{name}.parquet", tables.PUBLIC[name]).to_pylist()


def add_study(archive: Path, number: int, **attributes) -> None:
    uid = f"1.2.3.{number}"
    plain = {"PatientID": f"HOSPITAL-{number}", "StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
    save_all(axial_stack(), archive / f"study{number}", **plain | attributes)


# --- single headers -----------------------------------------------------------------------------------


def read_files(folder: Path, *names: str, archives: bool = False) -> list[dict]:
    files = [ListedFile(name, (folder / name).stat().st_size, 1) for name in names]
    return as_table(read_headers(str(folder), files, archives=archives)).to_pylist()


def test_a_header_is_read_by_an_allow_list(tmp_path):
    save(axial_stack(1)[0], tmp_path / "x")
    (record,) = read_files(tmp_path, "x")
    assert record["reason"] is None and record["patient"] == "HOSPITAL-4711" and record["rows"] == 20
    assert record["positions_mm"] == [-17.0, -20.0, -30.0] and record["image_type"] == "ORIGINAL\\PRIMARY\\AXIAL"
    assert "Maria" not in str(record)


def test_what_is_no_image_has_a_reason(tmp_path):
    (tmp_path / "text").write_text("not DICOM" * 99)
    (tmp_path / "empty").touch()
    whole = save(axial_stack(1)[0], tmp_path / "cut")
    whole.write_bytes(whole.read_bytes()[:-100])
    records = read_files(tmp_path, "text", "empty", "cut")
    assert [record["reason"] for record in records] == ["not_dicom", "empty", "truncated"]


def test_what_is_no_file_is_not_opened(tmp_path):
    (tmp_path / "outside").touch()
    archive = tmp_path / "archive"
    save(axial_stack(1)[0], archive / "real/x")
    (archive / "out").symlink_to(tmp_path / "outside")
    (archive / "gone").symlink_to(tmp_path / "nowhere")
    (archive / "folder").symlink_to(archive / "real")
    (archive / "again").symlink_to(archive / "real/x")
    os.mkfifo(archive / "pipe")
    found = {path: reason for path, _, _, reason in scan.walk(archive)}
    assert found == {
        "real/x": None,
        "again": None,
        "out": "link_outside",
        "gone": "link_outside",
        "pipe": "not_regular",
    }


def _source(path: Path) -> Source:
    return Source(str(path), None, path.stat().st_size, 1, path.stat().st_size)


def _by_pydicom(path: Path) -> Header:
    with path.open("rb") as file, quiet():
        return read_by_pydicom(file, _source(path))[0]


def _quickly(path: Path) -> Header | None:
    """What the quick reader says; None where it doubts."""
    content = path.read_bytes()
    try:
        return read_quickly(lambda at, n: content[at : at + n], _source(path))
    except Doubt:
        return None


def test_the_quick_parser_says_what_pydicom_says(real_data, tmp_path):
    files = [path for path in real_data.rglob("*") if path.is_file()]
    quick = {path: _quickly(path) for path in files}
    assert sum(found is not None for found in quick.values()) > 250
    for path, found in quick.items():
        assert found is None or found == _by_pydicom(path), path


def _unusual() -> list[Dataset]:
    """Headers that a quick parser could stumble over."""
    item = Dataset()
    item.PatientID = "NESTED"
    sequence = Sequence([item])
    nested = axial_stack(1)[0]
    nested.ReferencedStudySequence = sequence
    long = axial_stack(1)[0]
    long.add_new(0x00290010, "LO", "PRIVATE")
    long.add_new(0x00291010, "OB", b"x" * 100_000)
    foreign = axial_stack(1)[0]
    foreign.SpecificCharacterSet, foreign.PatientID = "ISO_IR 192", "Ärztin"
    strange = axial_stack(1)[0]
    strange.AcquisitionNumber, strange.PixelPaddingValue, strange.PatientWeight = 3, -2000, None
    del strange.KVP
    return [nested, long, foreign, strange]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_unusual_headers_are_read_the_same_either_way(tmp_path, number, implicit, undefined):
    path = save(_unusual()[number], tmp_path / "x")
    dataset = pydicom.dcmread(path)
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            element.value[0].is_undefined_length_sequence_item = undefined
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=implicit, little_endian=True)
    quick, slow = _quickly(path), _by_pydicom(path)
    assert quick in (None, slow)
    assert quick is not None or number == 2  # only the foreign letters are a doubt
    assert slow.patient == ("Ärztin" if number == 2 else "HOSPITAL-4711")


def test_damaged_headers_never_crash(tmp_path):
    rng = random.Random(3)
    whole = save(axial_stack(1)[0], tmp_path / "x").read_bytes()[:900]
    for _ in range(300):
        damaged = bytearray(whole[: rng.randrange(1, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "x").write_bytes(damaged)
        quick, slow = _quickly(tmp_path / "x"), _by_pydicom(tmp_path / "x")
        assert quick is None or quick == slow
        assert len(read_files(tmp_path, "x")) == 1


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_files_inside_archives_are_read_where_asked(tmp_path, kind):
    save_all(axial_stack(3), tmp_path / "study/series")
    (tmp_path / "study/notes.txt").write_text("text")
    name = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "study")).name
    (closed,) = read_files(tmp_path, name)
    assert closed["reason"] == "archive"
    opened = read_files(tmp_path, name, archives=True)
    assert sorted(record["reason"] or "" for record in opened) == ["", "", "", "not_dicom"]
    found = [record for record in opened if not record["reason"]]
    plain = read_files(tmp_path, *(f"study/series/{k:03d}" for k in range(3)))
    for one, other in zip(sorted(found, key=lambda r: r["member"]), plain, strict=True):
        assert {k: v for k, v in one.items() if k not in FILES.names[:4]} == {
            k: v for k, v in other.items() if k not in FILES.names[:4]
        }


def test_missing_identities_are_made_from_folder_and_content(tmp_path):
    nothing = {"StudyInstanceUID": "", "SeriesInstanceUID": "", "PatientID": None}
    for folder in ("a", "b"):
        save_all(axial_stack(3), tmp_path / folder, **nothing)
    first, again = (read_files(tmp_path, "a/000", "a/001", "b/000") for _ in range(2))
    assert first == again and all(record["substitute"] for record in first)
    assert first[0]["study_uid"] == first[1]["study_uid"] != first[2]["study_uid"]
    assert first[0]["series_uid"] == first[1]["series_uid"] and first[0]["study_uid"].startswith("2.25.")


# --- stacks and choice ----------------------------------------------------------------------------------


def test_nothing_speaks_against_a_plain_ct():
    assert choose.reasons_against(stack(), GATES) == []


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        ("not_ct", stack(modality="MR")),
        ("not_ct", stack(modality="SR", sop_class="1.2.840.10008.5.1.4.1.1.88.67")),
        ("secondary_capture", stack(sop_class=SecondaryCaptureImageStorage)),
        ("secondary_capture", stack(image_type="DERIVED\\SECONDARY\\OTHER\\CT_SOM5 PROT")),
        ("secondary_capture", stack(photometric="RGB")),
        ("localizer", stack(image_type="ORIGINAL\\PRIMARY\\LOCALIZER")),
        ("projection", stack(image_type="DERIVED\\SECONDARY\\PROJECTION IMAGE")),
        ("projection", stack(image_type="DERIVED\\SECONDARY\\AXIAL\\CT_SOM5 MIP")),
        ("other_values", stack(image_type="DERIVED\\PRIMARY\\VOLUME\\SUBTRACTION")),
        ("other_values", stack(rescale_type="MGML")),
        ("projection", stack(image_type="DERIVED\\PRIMARY\\VOLUME\\MAXIMUM")),
        ("no_geometry", stack(positions_mm=None)),
        ("no_geometry", stack(pixel_spacing_mm=None)),
        ("lossy", stack(lossy="01")),
        ("lossy", stack(transfer_syntax="1.2.840.10008.1.2.4.51")),
        ("no_rescale", stack(slope=None)),
        ("no_rescale", stack(slope=0.0)),
        ("head_or_extremity", stack(body_part="HEAD", pixel_spacing_mm=[0.45, 0.45])),
        ("head_or_extremity", stack(body_part="HEAD", description="CT Brain w/o")),
        ("not_axial", stack(orientation=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0])),
        ("too_few_slices", stack(n=39, spacing_mm=3.0)),
        ("too_short", stack(n=80, spacing_mm=1.0)),
        ("too_thick", stack(spacing_mm=8.0)),
    ],
)
def test_each_gate_has_its_reason(reason, refused):
    assert choose.reasons_against(refused, GATES)[0] == reason


def test_thick_slices_may_be_few_and_are_flagged():
    thick = stack(n=25, spacing_mm=5.0)
    assert choose.reasons_against(thick, GATES) == []
    assert choose.flags_of(thick, GATES) == ["thick_slices"] and choose.flags_of(stack(), GATES) == []


def test_every_gate_that_a_stack_fails_is_kept():
    assert choose.reasons_against(stack(n=5, spacing_mm=8.0), GATES) == ["too_short", "too_thick"]


def test_a_small_hole_is_left_to_convert_and_a_large_one_is_a_reason():
    whole = stack()
    for missing, reasons in ((1, []), (3, []), (4, ["missing_slices"])):
        holed = replace(whole, headers=whole.headers[:30] + whole.headers[30 + missing :])
        assert choose.reasons_against(holed, GATES) == reasons  # slices 2.5 mm apart, gaps of 5, 10 and 12.5 mm
    far = [part._replace(positions_mm=[0.0, 0.0, 40.0 + 11.3 * k]) for k, part in enumerate(whole.headers[30:])]
    assert choose.reasons_against(replace(whole, headers=(*whole.headers[:30], *far)), GATES) == ["irregular_spacing"]


def test_one_word_for_elsewhere_is_too_weak():
    wide = stack(body_part="HEAD")
    assert choose.reasons_against(wide, GATES) == [] and choose.flags_of(wide, GATES) == ["elsewhere_by_text"]
    cropped = stack(body_part="EXTREMITY", rows=160, columns=172)
    assert choose.reasons_against(cropped, GATES) == []


def test_words_for_the_trunk_outweigh_words_for_elsewhere():
    small = stack(body_part="CHEST", description="arms up, head first", pixel_spacing_mm=[0.4, 0.4])
    assert choose.reasons_against(small, GATES) == [] and choose.flags_of(small, GATES) == []


@pytest.mark.parametrize("text", ["LWS feet first", "Columna, arms up", "leg pain, back"])
def test_how_a_patient_lies_is_no_part_of_the_body(text):
    assert choose.reasons_against(stack(description=text, pixel_spacing_mm=[0.4, 0.4]), GATES) == []


def test_a_stack_with_slices_at_one_position_comes_last():
    repeated = stack(spacing_mm=1.0, n=150)
    repeated = replace(repeated, headers=(*repeated.headers, *repeated.headers[:20]))
    good = stack(spacing_mm=3.0)
    assert choose.score(repeated, WEIGHTS) > choose.score(good, WEIGHTS)
    assert choose.best([repeated, good], WEIGHTS) is good


def test_derived_without_kernel_is_acceptable_and_scores_less():
    derived = stack(image_type="DERIVED\\SECONDARY\\PROCESSED", kernel=None)
    assert choose.reasons_against(derived, GATES) == []
    assert choose.score(derived, WEIGHTS) < choose.score(stack(), WEIGHTS)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (stack(n=120, spacing_mm=1.25), stack(n=30, spacing_mm=5.0)),
        (stack(kernel="STANDARD"), stack(kernel="BONE")),
        (stack(kernel="Br40d"), stack(kernel="Br64d")),
        (stack(n=160), stack(n=60)),
        (stack(kvp=120.0), stack(kvp=80.0)),
        (stack(contrast=None), stack(contrast="OMNIPAQUE")),
        (stack(), stack(pixel_spacing_mm=[0.35, 0.35])),
    ],
)
def test_the_score_prefers(better, worse):
    assert choose.score(better, WEIGHTS) > choose.score(worse, WEIGHTS)
    assert choose.best([worse, better], WEIGHTS) is better


def test_a_weight_of_nothing_counts_nothing():
    sharp, soft = stack(kernel="BONE"), stack(kernel="STANDARD", kvp=100.0)
    assert choose.best([sharp, soft], WEIGHTS) is soft
    assert choose.best([sharp, soft], replace(WEIGHTS, kernel=0)) is sharp


@pytest.mark.parametrize(
    ("kernel", "softness"),
    [
        *[(name, 1.0) for name in ("B30f", "Br40d\\3", "I31f", "STANDARD", "FC08", "B", "IMR1,Soft Tissue", "STD+")],
        *[(name, 0.0) for name in ("B60f", "Br64d", "BONEPLUS", "LUNG", "FC51", "YC", "IMR1,SharpPlus", "Lung STD")],
        *[(name, 0.5) for name in (None, "", "DETAIL", "C")],
    ],
)
def test_kernels_are_soft_or_sharp_by_their_makers_names(kernel, softness):
    assert choose.softness(kernel) == softness


def test_copies_are_counted_and_left_out():
    kept, copies = without_copies([header(0), header(1), header(1, path="again")])
    assert [part.path for part in kept] == ["000", "001"] and [part.path for part in copies] == ["again"]


def parts(*files: Header) -> list[Stack]:
    return stacks_of(files, max_gap_mm=10)


def test_of_copies_the_one_without_loss_is_kept():
    kept, copies = without_copies([header(0, path="a", lossy="01"), header(0, path="b")])
    assert [part.path for part in kept] == ["b"] and [part.path for part in copies] == ["a"]


def test_slices_that_differ_are_stacks_of_their_own():
    odd = header(9, rows=256), header(10, kernel="BONE"), header(11, orientation=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0])
    found = parts(*(header(k) for k in range(5)), *odd, header(12, positions_mm=None))
    assert sorted(len(part.headers) for part in found) == [1, 1, 1, 1, 5]
    assert sorted(part.number for part in found) == [0, 1, 2, 3, 4]
    assert max(found, key=lambda part: part.n_slices).n_odd == 4


def test_directions_that_are_nearly_the_same_are_one():
    noisy = [header(k, orientation=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0049 + 0.0001 * k]) for k in range(5)]
    assert [len(part.headers) for part in parts(*noisy)] == [5]


def test_phases_are_parted_and_numbered_slices_are_not():
    phases = [header(k, acquisition=n, instance_uid=f"{n}.{k}") for n in (1, 2) for k in range(5)]
    assert [(len(part.headers), part.split) for part in parts(*phases)] == [(5, True), (5, True)]
    numbered = [header(k, acquisition=k) for k in range(5)]
    assert [(len(part.headers), part.split) for part in parts(*numbered)] == [(5, False)]


def test_stations_that_overlap_are_parted():
    stations = [
        header(k, acquisition=n, instance_uid=f"{n}.{k}", positions_mm=[0.0, 0.0, 2.5 * k + 31.1 * n])
        for n in (1, 2)
        for k in range(20)
    ]
    assert [len(part.headers) for part in parts(*stations)] == [20, 20]


def test_phases_are_parted_though_one_lacks_a_slice():
    phases = [header(k, acquisition=n, instance_uid=f"{n}.{k}") for n in (1, 2) for k in range(9)]
    assert sorted(len(part.headers) for part in parts(*phases[:4], *phases[5:])) == [8, 9]


def rules(folder: Path = Path()) -> rows.Rules:
    return rows.Rules("test", b"k", GATES, WEIGHTS, folder)


def test_one_uid_under_two_patients_is_two_studies():
    found = rows.judge([header(0), header(0, patient="Q", path="q")], rules())
    assert len({row["study_id"] for row in found.studies}) == 2 == len({row["patient_id"] for row in found.studies})


def test_every_candidate_is_kept_with_gates_and_score():
    good, sharp, short = (
        [header(k, series_uid=f"1.1.{n}", instance_uid=f"{n}.{k}", path=f"{n}{k:03d}", **other) for k in range(size)]
        for n, size, other in ((1, 60, {}), (2, 60, {"kernel": "BONE"}), (3, 10, {}))
    )
    found = rows.judge([*good, *sharp, *short], rules())
    assert [(row["reason"], row["gates"]) for row in found.series] == [
        (None, []),
        ("not_chosen", []),
        ("too_few_slices", ["too_few_slices", "too_short"]),
    ]
    assert found.series[0]["score"] > found.series[1]["score"] and found.series[2]["score"] is not None
    assert found.series[0]["series_uid"].startswith("2.25.")


# --- what may be said ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("years", "told"),
    [
        (38.0, {"age": "038Y"}),
        (1.5, {"age": "018M"}),
        (69.9, {"birth_date": "19500202"}),
        (38.0, {"age": "038Y", "birth_date": "19000101"}),
        (90.0, {"age": "097Y"}),
        (None, {"age": "000Y", "birth_date": "20200102"}),
        (None, {"age": "old"}),
        (None, {}),
    ],
)
def test_age(years, told):
    assert facts.age_years(header(**told)) == years


@pytest.mark.parametrize("age", ["\u00b2Y", "9" * 5000 + "Y", "4_5Y", "-3Y", "Y"])
def test_an_age_that_is_none_is_unknown(age):
    assert facts.age_years(header(age=age, birth_date=None)) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('=HYPERLINK("x";"y")', 'HYPERLINK("x";"y")'),
        ("@SUM(A1)", "SUM(A1)"),
        ("  -+=1", "1"),
        ("SIE\tMENS\r\n\x00\x1b[2J\u202eX", "SIE MENS [2J X"),
        ("ORIGINAL\\PRIMARY\\AXIAL", "ORIGINAL\\PRIMARY\\AXIAL"),
        ("x" * 5000, "x" * 200),
        ("\x01", None),
        (None, None),
    ],
)
def test_texts_of_headers_are_plain_in_the_tables(text, shown):
    assert facts.plain(text) == shown
    assert facts.device_key(header(manufacturer=text)).split("|")[0] == (shown or "?")


def test_the_device_key_names_what_is_unknown():
    assert facts.device_key(header(manufacturer="GE", kernel=None)) == "GE|?|120|?"


# --- shards: append-only -----------------------------------------------------------------------------------


@given(st.lists(st.sets(st.integers(0, 30), max_size=8), max_size=6), st.integers(1, 5))
def test_growth_never_moves_a_study_nor_touches_a_full_shard(growths, size):
    ledger: dict[str, shards.Entry] = {}
    present: dict[str, shards.Chosen] = {}
    for growth in growths:
        before, texts = dict(ledger), shards.manifests(ledger, present.values())
        new = {f"st{n:02d}": shards.Chosen(f"st{n:02d}", "pa", "se", "f") for n in growth}
        fresh = new.keys() - present.keys()
        present = new | present
        ledger = shards.assign(ledger, present.values(), shard_size=size)
        assert all(ledger[name].shard == entry.shard for name, entry in before.items())
        after = shards.manifests(ledger, present.values())
        assert {shard: after[shard] for shard in texts} == texts  # old lists stay as they are, to the letter
        assert len(after) - len(texts) == -(-len(fresh) // size)
        assert all(count <= size for count in Counter(entry.shard for entry in ledger.values()).values())


def test_a_changed_study_changes_its_own_list_alone():
    studies = [shards.Chosen(f"st{n}", "pa", "se", "f") for n in range(4)]
    ledger = shards.assign({}, studies, shard_size=2)
    changed = [replace(study, fingerprint="g") if study.study_id == "st3" else study for study in studies]
    one, other = shards.manifests(ledger, studies), shards.manifests(ledger, changed)
    assert one["00000"] == other["00000"] and one["00001"] != other["00001"]


# --- a cohort -------------------------------------------------------------------------------------------------


def test_a_cohort_grows_and_shrinks(tmp_path):
    archive = tmp_path / "archive"
    for number in range(3):
        add_study(archive, number)
    where = places(tmp_path, archive)
    run(where)
    lists = where.public / "shards"
    before = {path.name: path.stat().st_mtime_ns for path in lists.iterdir()}
    assert set(before) == {"00000.tsv", "00001.tsv"}
    run(where)
    assert {path.name: path.stat().st_mtime_ns for path in lists.iterdir()} == before
    add_study(archive, 3)
    run(where)
    assert (where.public / "index/shards.txt").read_text().split() == ["00000", "00001", "00002"]
    assert {name: (lists / name).stat().st_mtime_ns for name in before} == before
    chosen = {study.study_id for study in shards.read_manifest(lists / "00002.tsv")}
    for path in (archive / "study3").iterdir():
        path.unlink()
    run(where)
    assert (where.public / "index/shards.txt").read_text().split() == ["00000", "00001"]
    gone = [row for row in read(where, "studies") if row["reason"] == "vanished"]
    assert {row["study_id"] for row in gone} == chosen and gone[0]["shard"] == "00002"


def test_a_known_file_is_not_read_again(tmp_path, monkeypatch):
    add_study(tmp_path / "archive", 1)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    read_paths = []
    really = read_headers

    def watched(archive, files, *, archives):
        read_paths.extend(file.path for file in files)
        return really(archive, files, archives=archives)

    monkeypatch.setattr(scan, "read_headers", watched)
    run(where)
    assert read_paths == []
    (tmp_path / "archive/new").write_text("new")
    run(where)
    assert read_paths == ["new"]


def memory(folder: Path, archive: Path, **options) -> list[dict]:
    """What a scan remembers, sorted by path."""
    plain = {"workers": 1, "scheduler": None, "archives": False}
    scan.scan(archive, folder, **plain | options)
    found = [row for path in scan.parts(folder) for row in pq.read_table(path).to_pylist()]
    return sorted(found, key=lambda row: (row["path"], row["member"] or ""))


def test_a_scan_that_was_killed_goes_on_where_it_stood(tmp_path, monkeypatch):
    for number in range(4):
        add_study(tmp_path / "archive", number)
    whole = memory(tmp_path / "whole", tmp_path / "archive")
    monkeypatch.setattr(scan, "PART", 5)
    monkeypatch.setattr(scan, "BATCH", 5)
    really, calls = read_headers, []

    def killed(archive, files, *, archives):
        calls.append(len(files))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return really(archive, files, archives=archives)

    monkeypatch.setattr(scan, "read_headers", killed)
    with pytest.raises(KeyboardInterrupt):
        memory(tmp_path / "memory", tmp_path / "archive")
    assert memory(tmp_path / "memory", tmp_path / "archive") == whole
    assert sum(calls) - calls[2] == 24  # no file was read twice


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path, monkeypatch):
    save(axial_stack(1)[0], tmp_path / "archive/x")
    monkeypatch.setattr(header_files, "_read_plain", lambda _, source: [failed(source, "unreadable")])
    assert [row["reason"] for row in memory(tmp_path / "memory", tmp_path / "archive")] == ["unreadable"]
    monkeypatch.undo()
    assert [row["reason"] for row in memory(tmp_path / "memory", tmp_path / "archive")] == [None]


@pytest.mark.parametrize("change", [Path.unlink, lambda key: key.write_text("0123456789abcdef" * 4)])
def test_a_lost_or_other_key_stops_the_index(tmp_path, change):
    add_study(tmp_path / "archive", 1)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    before = read(where, "studies")
    change(where.private / "key")
    with pytest.raises(ConfigError, match="Put that key back"):
        run(where)
    assert read(where, "studies") == before


def test_a_damaged_zip_file_costs_its_damaged_members_on_every_scan(tmp_path):
    save_all(axial_stack(3), tmp_path / "study")
    (tmp_path / "study/inner.zip").write_bytes(b"PK\x03\x04" + bytes(600))
    (tmp_path / "archive").mkdir()
    packed = Path(shutil.make_archive(str(tmp_path / "archive/packed"), "zip", tmp_path / "study"))
    with zipfile.ZipFile(packed) as opened:
        at = opened.getinfo("001").header_offset + 60
    raw = bytearray(packed.read_bytes())
    raw[at : at + 40] = bytes(40)
    packed.write_bytes(raw)
    for _ in range(3):
        found = memory(tmp_path / "memory", tmp_path / "archive", archives=True)
        assert sorted(row["reason"] or "" for row in found) == ["", "", "archive", "unreadable"]


def test_a_member_of_a_zip_file_may_have_no_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", save(axial_stack(1)[0], tmp_path / "one").read_bytes())
    content = (tmp_path / "x.zip").read_bytes()
    at = content.rindex(b"PK\1\2")  # its entry in the central directory: the length of the name, and the name
    nameless = content[: at + 28] + b"\0\0" + content[at + 30 : at + 46] + content[at + 47 :]
    size = content.rindex(b"PK\5\6") - 1 + 12
    nameless = nameless[:size] + (46).to_bytes(4, "little") + nameless[size + 4 :]
    (tmp_path / "x.zip").write_bytes(nameless)
    (record,) = read_files(tmp_path, "x.zip", archives=True)
    assert record["member"] == "" and record["reason"] in (None, "unreadable")


def test_a_name_that_is_no_text_is_read_all_the_same(tmp_path):
    save(axial_stack(1)[0], tmp_path / "archive/x")
    (tmp_path / "archive/x").rename(os.fsdecode(bytes(tmp_path / "archive") + b"/M\xfcller"))
    (row,) = memory(tmp_path / "memory", tmp_path / "archive")
    assert row["reason"] is None and row["rows"] == 20
    assert as_path(row["path"]) == os.fsdecode(b"M\xfcller")


def test_what_is_in_an_archive_is_found_when_asked_and_forgotten_when_not(tmp_path):
    save_all(axial_stack(3), tmp_path / "study")
    (tmp_path / "archive").mkdir()
    shutil.make_archive(str(tmp_path / "archive/packed"), "zip", tmp_path / "study")
    for asked, n in ((False, 1), (True, 3), (True, 3), (False, 1)):
        assert len(memory(tmp_path / "memory", tmp_path / "archive", archives=asked)) == n


def test_dask_reads_what_one_process_reads(tmp_path, monkeypatch):
    for number in range(3):
        add_study(tmp_path / "archive", number)
    alone = memory(tmp_path / "alone", tmp_path / "archive")
    monkeypatch.setattr(scan, "IN_PROCESS", 0)
    monkeypatch.setattr(scan, "BATCH", 5)
    assert memory(tmp_path / "together", tmp_path / "archive", workers=2) == alone


def test_labels_are_pseudonymised_and_find_their_patients(tmp_path):
    add_study(tmp_path / "archive", 1, PatientID="HOSPITAL-1 ", StudyDate="20200102")
    (tmp_path / "labels.csv").write_text(
        "patient_id,study_date,level,vbmd,unit,device\n"
        "HOSPITAL-1,2020-01-12,L1,110,mg/cm3 HA,x\n"
        "HOSPITAL-9,2020-01-12,L1,120,mg/cm3 HA,x\n"
        "HOSPITAL-1,2020-01-12,L2,much,mg/cm3 HA,x\n"
    )
    where = places(tmp_path, tmp_path / "archive", tmp_path / "labels.csv")
    run(where)
    (study,) = read(where, "studies")
    labels = read(where, "labels")
    assert [(row["status"], row["reason"]) for row in labels] == [
        ("used", None),
        ("unused", "no_scan"),
        ("unused", "bad_value"),
    ]
    assert labels[0]["patient_id"] == study["patient_id"] and labels[0]["days_from_first_study"] == 10


def test_days_count_from_the_patients_first_study(tmp_path):
    add_study(tmp_path / "archive", 1, PatientID="A", StudyDate="20200102")
    add_study(tmp_path / "archive", 2, PatientID="A", StudyDate="20210102")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert sorted(row["days_from_first_study"] for row in read(where, "studies")) == [0, 366]


def test_one_id_from_two_issuers_is_two_patients(tmp_path):
    for number, issuer in enumerate(["ONE", "OTHER", None]):
        add_study(tmp_path / "archive", number, PatientID="A", IssuerOfPatientID=issuer or "")
    (tmp_path / "labels.csv").write_text(
        "patient_id,study_date,level,vbmd,unit,device\nA,2020-01-12,L1,110,mg/cm3 HA,x\n"
    )
    where = places(tmp_path, tmp_path / "archive", tmp_path / "labels.csv")
    run(where)
    assert len({row["patient_id"] for row in read(where, "studies")}) == 3  # whose the third study is can't be known
    assert [row["reason"] for row in read(where, "labels")] == ["ambiguous_patient"]


def test_a_patient_is_one_though_a_workstation_leaves_out_the_issuer(tmp_path):
    slices = axial_stack()
    uids = {"PatientID": "A", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    save_all(slices[:3], tmp_path / "archive/a", IssuerOfPatientID="ONE", **uids)
    save_all(slices[3:], tmp_path / "archive/b", **uids)
    add_study(tmp_path / "archive", 4, PatientID="A")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert [row["n_slices"] for row in read(where, "series")] == [6, 6]
    assert len({row["patient_id"] for row in read(where, "studies")}) == 1


def test_a_date_that_an_anonymising_tool_wrote_is_none(tmp_path):
    add_study(tmp_path / "archive", 1, PatientID="A", StudyDate="19000101")
    add_study(tmp_path / "archive", 2, PatientID="A", StudyDate="20210102")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert {row["days_from_first_study"] for row in read(where, "studies")} == {None, 0}


def test_no_identity_leaves_the_private_folder(tmp_path):
    add_study(tmp_path / "archive", 4711)
    (tmp_path / "archive/Muster^Maria.txt").write_text("HOSPITAL-4711")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    public = " ".join(
        str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text()
        for path in where.public.rglob("*")
        if path.is_file()
    )
    assert not [word for word in ("4711", "Muster", "1950", "20200102", "1.2.3.", "HOSPITAL") if word in public]
    for path in where.private.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o777 == 0o600
    linked = linkage.read_linked(where.private / "test/linkage.parquet", "00000")
    assert [len(stack.headers) for stack in linked.values()] == [6]


def test_rejected_studies_and_lost_files_have_rows(tmp_path):
    archive = tmp_path / "archive"
    add_study(archive, 1)
    add_study(archive, 2, Modality="MR")
    save_all(axial_stack(), archive / "anonymous", StudyInstanceUID="", SeriesInstanceUID="", PatientID="")
    (archive / "notes.txt").write_text("text")
    (archive / "empty").mkdir()
    where = places(tmp_path, archive)
    run(where)
    assert sorted((row["status"], row["reason"] or "", *row["flags"]) for row in read(where, "studies")) == [
        ("accepted", ""),
        ("accepted", "", "substitute_ids"),
        ("rejected", "not_ct"),
    ]
    (failure,) = read(where, "failures")
    assert (failure["reason"], failure["n_files"], failure["patient_id"]) == ("not_dicom", 1, None)


def test_an_empty_archive_has_empty_tables(tmp_path):
    (tmp_path / "archive").mkdir()
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert read(where, "series") == [] and (where.public / "index/shards.txt").read_text() == ""


def test_a_folder_that_is_linked_in_a_circle_is_walked_once(tmp_path):
    add_study(tmp_path / "archive", 1)
    (tmp_path / "archive/again").symlink_to(tmp_path / "archive")
    assert len(list(scan.walk(tmp_path / "archive"))) == 6


def test_the_signature_sees_files_come_and_go(tmp_path):
    add_study(tmp_path, 1)
    first = signature(tmp_path)
    assert signature(tmp_path) == first
    (tmp_path / "study1/more").touch()
    assert signature(tmp_path) != first


# --- real archive ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_index(real_data, tmp_path_factory) -> index.Cohort:
    """All of the real data as one archive."""
    where = places(tmp_path_factory.mktemp("real"), real_data)
    run(where, gates=DEFAULTS["gates"])
    return where


def test_no_file_of_a_real_archive_is_lost(real_index, real_data):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    lost = sum(row["n_files"] for row in read(real_index, "failures"))
    assert sum(len(row["files"]) for row in linked) + lost == sum(path.is_file() for path in real_data.rglob("*"))
    assert all(row["accepted"] != bool(row["reason"]) for row in read(real_index, "series"))


def test_scans_of_the_trunk_in_a_real_archive_are_chosen_and_nothing_else(real_index):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    assert sorted(row["patient"] for row in linked if row["shard"]) == [
        "CRLM-CT-1004",
        "CRLM-CT-1006",
        "STS_018",
    ]


def test_series_of_a_real_archive_have_the_right_reasons(real_index):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    reasons = {(row["series_id"], row["stack"]): row["reason"] for row in read(real_index, "series")}
    wanted = {
        "torchio_mr_labelled_ct": {"too_few_slices"},
        "ibsi_sts_018": {"not_ct", None},
        "totalseg_example": {"too_few_slices"},
        "dcm_qa_ct_ge_tilt_variable": {"head_or_extremity"},
        "cornerstone_ct_transfer_syntaxes": {"lossy", "too_few_slices", "other_values"},
        "monai_ct_dicom_tiny": {"head_or_extremity"},
        "TINY_ALPHA": {"no_geometry"},
    }
    for name, expected in wanted.items():
        found = {reasons[row["series_id"], row["stack"]] for row in linked if f"/{name}/" in row["files"][0]}
        assert found == expected
    lost = {row["reason"]: row["n_files"] for row in read(real_index, "failures") if row["series_id"] is None}
    assert lost["dicomdir"] == 8 and "missing_uid" not in lost


def test_facts_of_a_real_scan(real_index):
    ages = {row["age_years"] for row in read(real_index, "studies") if row["status"] == "accepted"}
    assert ages == {38.0, 49.0, None}
    assert facts.date_of("1994.11.22") == date(1994, 11, 22)
