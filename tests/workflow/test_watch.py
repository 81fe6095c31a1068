"""Nothing that changes goes unseen: growth at any depth, content whatever its time, and results without .snakemake."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from alike import alike_tables
from small_site import LAST, Site, set_option, times

INFER = {"hospital/infer/00000.log", "hospital/infer/00001.log", "made/infer/00000.log"}
YEARS_AGO = (10**9, 10**9)


def planned(site: Site, *arguments: str) -> dict[str, int]:
    """Count the jobs of a dry run by rule."""
    listing = site.run(*arguments, "--dry-run", "--quiet", "rules")
    jobs = re.findall(r"^(\w+) +(\d+)$", listing.split("Job stats:")[-1], flags=re.MULTILINE)
    return {rule: int(count) for rule, count in jobs if rule != "total"}


def replace(file: Path, text: str) -> None:
    """Write a file as a copy with an older time would."""
    file.write_text(text)
    os.utime(file, YEARS_AGO)


def pieces_of(archive: Path, finished: Site) -> Iterator[Path]:
    """Give a patient, a study, a series and slices of an archive five levels deep, each of another patient."""
    rows = pq.ParquetFile(finished.folder / "private/hospital/linkage.parquet").read().to_pylist()
    chosen = sorted(sorted(row["files"]) for row in rows if row["chosen"])
    of_series, of_study, of_patient, of_slices = ([Path(*Path(file).parts[2:]) for file in files] for files in chosen)
    yield archive / of_patient[0].parts[0]
    yield archive / Path(*of_study[0].parts[:2])
    yield archive / of_series[0].parent
    yield from (archive / file for file in of_slices[-8:])


def test_an_archive_of_five_levels_grows_by_patient_study_series_and_slice(finished, begun):
    archive, elsewhere = begun.folder / "hospital/archive/2026/11/17", begun.folder / "elsewhere"
    shutil.move(begun.folder / "hospital/archive", begun.folder / "patients")
    archive.parent.mkdir(parents=True)
    shutil.move(begun.folder / "patients", archive)
    patient, study, series, *slices = pieces_of(archive, finished)
    deliveries = [[patient], [study], [series], slices]
    for piece in (piece for delivery in deliveries for piece in delivery):
        (elsewhere / piece.relative_to(archive)).parent.mkdir(parents=True, exist_ok=True)
        piece.rename(elsewhere / piece.relative_to(archive))
    begun.run()
    for delivery in deliveries:
        assert planned(begun, "indexed") == {}
        for piece in delivery:
            (elsewhere / piece.relative_to(archive)).rename(piece)
        assert planned(begun, "indexed") == {"index": 1, "indexed": 1}
        begun.run("indexed")
    begun.run()
    alike_tables(begun, finished)


def test_results_without_snakemakes_folder_are_still_compared(copied):
    shutil.rmtree(copied.folder / ".snakemake")
    assert planned(copied) == {}
    set_option(copied, "evaluate", bootstrap=101)
    assert copied.ran() == LAST - {"aggregate.log"}
    shutil.rmtree(copied.folder / ".snakemake")
    (copied.folder / "hospital/archive/2026/11/17/P1/ST2").mkdir(parents=True)
    (copied.folder / "hospital/archive/2026/11/17/P1/ST2/note.txt").touch()
    assert planned(copied)["index"] == 1
    shutil.rmtree(copied.folder / "results/records")
    warning = copied.run("--dry-run")
    assert "Results without a record of how they were made" in warning
    assert "--forcerun index" in warning and "--forceall" in warning


def test_labels_verdicts_and_bundles_count_by_their_content(copied):
    verdicts, labels = copied.folder / "verdicts.csv", copied.folder / "hospital/labels.csv"
    head = "study_id,level,verdict,new_level\n"
    study = pq.ParquetFile(copied.folder / "results/hospital/index/studies.parquet").read()["study_id"][0].as_py()
    replace(verdicts, f"{head}{study},L1,reject,\n")
    set_option(copied, "aggregate", verdicts="verdicts.csv")
    replace(labels, "".join(labels.read_text().splitlines(keepends=True)[:-1]))
    assert copied.ran() == {"hospital/index/index.log"} | LAST

    for file in (verdicts, labels, copied.folder / "models/demo/configs/metadata.json"):
        os.utime(file)
    assert planned(copied) == {}
    replace(verdicts, f"{head}{study},L2,reject,\n")
    assert planned(copied).keys() == {"aggregate", "evaluate", "report", "report_summary", "all"}
    card = copied.folder / "models/demo/docs/README.md"
    replace(card, card.read_text() + "\n")
    assert planned(copied)["infer"] == len(INFER)


def test_a_run_up_to_a_stage_leaves_its_volumes_to_the_next_run(begun):
    cohorts = begun.folder / "cohorts.tsv"
    cohorts.write_text("".join(cohorts.read_text().splitlines(keepends=True)[:2]))
    volumes = [begun.folder / f"results/hospital/convert/0000{shard}" for shard in (0, 1)]
    assert planned(begun, "converted")["index"] == 1
    begun.run("converted")
    assert all(folder.is_dir() for folder in volumes)
    assert planned(begun, "converted") == {}
    assert planned(begun, "measured") == {"segment": 2, "crop": 2, "measure": 2, "measured": 1}
    before = times(begun.folder, "logs/hospital/convert/*.log")
    begun.run("measured")
    assert times(begun.folder, "logs/hospital/convert/*.log") == before
    assert not any(folder.exists() for folder in volumes)
    assert all(planned(begun, target) == {} for target in ("indexed", "converted", "segmented", "measured"))
    assert planned(begun, "tables") == {"infer": 2, "aggregate": 1, "tables": 1}
