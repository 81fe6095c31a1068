"""Digest: it changes with a stage's code and with what that imports, and with nothing else."""

import pytest

from trabecula.runtime import digest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in which stage imports near, near imports far (a folder), and other stands alone."""
    folder = tmp_path / "toy"
    (folder / "far").mkdir(parents=True)
    (folder / "stage.py").write_text("import os\nfrom toy.near import thing\n")
    (folder / "near.py").write_text("def thing():\n    from toy import far\n    return far\n")
    (folder / "far" / "__init__.py").write_text("from toy.far import deep\n")
    (folder / "far" / "deep.py").write_text("x = 1\n")
    (folder / "other.py").write_text("import toy.stage\n")
    monkeypatch.setattr(digest, "PACKAGE", folder)
    forget()
    yield folder
    forget()


def forget() -> None:
    """As a new process begins: what was read of the sources is remembered by each."""
    for remembered in (digest.digest, digest._imports_of, digest._run_by_import):
        remembered.cache_clear()


def of_stage() -> str:
    forget()
    return digest.digest("stage")


@pytest.mark.parametrize("file", ["stage.py", "near.py", "far/__init__.py", "far/deep.py"])
def test_a_change_anywhere_below_changes_it(package, file):
    before = of_stage()
    (package / file).write_text((package / file).read_text() + "y = 2\n")
    assert of_stage() != before


def test_a_change_elsewhere_does_not(package):
    before = of_stage()
    (package / "other.py").write_text("import toy.stage\ny = 2\n")
    assert of_stage() == before and len(before) == 16
    assert [str(path.relative_to(package)) for path in digest.sources("other")] == [
        "far/__init__.py", "far/deep.py", "near.py", "other.py", "stage.py",
    ]  # fmt: skip


def test_a_stage_without_code_is_a_bug(package):
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        digest.digest("nothing")


def test_a_stages_digest_covers_what_decides_its_results():
    names = {str(path.relative_to(digest.PACKAGE)) for path in digest.sources("aggregate")}
    assert {
        "cohort/labels/__init__.py",
        "cohort/patients.py",
        "tables/public.py",
        "model/bundle.py",
        "aggregate/out_of_core/shard_files.py",
    } <= names


def test_a_part_of_a_stage_leaves_out_what_it_does_not_import():
    """An edit of the model card must not train all networks again."""
    names = {str(path.relative_to(digest.PACKAGE)) for path in digest.sources("train.network")}
    assert {"train/fit.py", "train/transforms.py", "model/network.py"} <= names
    assert not {"train/card.py", "train/publish.py"} & names
    assert {"train/card.py", "train/fit.py"} <= {
        str(path.relative_to(digest.PACKAGE)) for path in digest.sources("train")
    }
