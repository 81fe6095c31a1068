"""A configuration that can't be used stops the run before any job, in one sentence."""

import pytest
from small_site import Site, write_settings

LABELS = "patient_id,study_date,level,vbmd,unit\n"


def test_a_lost_key_is_refused_before_any_job(repository, tmp_path):
    (tmp_path / "archive").mkdir()
    made_with = tmp_path / "results/a/index/key.txt"
    made_with.parent.mkdir(parents=True)
    made_with.write_text("0123456789abcdef\n")
    write_settings(tmp_path, ["a archive  external"])
    (tmp_path / "private/key").unlink()
    process = Site(tmp_path, repository).start()
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "The pseudonym key private/key is missing: the results of the cohort a were made with" in output
    assert "Traceback" not in output
    assert not (tmp_path / "private/key").exists()


@pytest.mark.parametrize(
    ("cohort", "options", "sentence"),
    [
        (
            "a archive labels.csv external",
            {"segment": {"bakend": "masks"}},
            "There is no option segment.bakend; write backend.",
        ),
        (
            "a archive labels.csv external",
            {"index": {"shard_size": "many"}},
            'Option index.shard_size is "many"; give a whole number, at least 1, in studies.',
        ),
        (
            "a nowhere labels.csv external",
            {},
            "cohorts.tsv: the archive 'nowhere' of the cohort a is not a folder; correct its path.",
        ),
        (
            "a archive broken.csv external",
            {},
            "cohorts.tsv: the labels broken.csv of the cohort a can't be read; give a CSV file in UTF-8.",
        ),
        (
            "a archive labels.csv external",
            {"model": "models/none"},
            "Option model names models/none, which does not exist; give a path that does.",
        ),
        (
            "a archive labels.csv external",
            {"private": "."},
            "Option private is ., which holds the folder results of this working directory; give a folder that holds "
            "nothing else, such as private.",
        ),
        (
            "a archive labels.csv external",
            {"private": "archive/private"},
            "The archive archive of the cohort a holds the private folder; keep archives apart from the folders that "
            "the workflow writes to.",
        ),
    ],
    ids=["unknown", "type", "archive", "labels", "model", "private", "overlap"],
)
def test_a_bad_configuration_is_refused_before_any_job(repository, tmp_path, cohort, options, sentence):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/.foo.123").touch()
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "broken.csv").write_bytes(LABELS.encode() + b"M\xfcller")
    write_settings(tmp_path, [cohort], **options)
    process = Site(tmp_path, repository).start()
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert sentence in output
    assert "Traceback" not in output
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "logs").exists()
    assert (tmp_path / "archive/.foo.123").exists()
