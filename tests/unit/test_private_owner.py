"""A cohort's private folder belongs to one working directory."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from trabecula.cohort import private_owner
from trabecula.cohort.private import alone
from trabecula.errors import ConfigError
from trabecula.runtime.whole_file import beside


@pytest.fixture
def first(tmp_path) -> Path:
    (tmp_path / "first").mkdir()
    return tmp_path / "first"


@pytest.fixture
def second(tmp_path) -> Path:
    (tmp_path / "second").mkdir()
    return tmp_path / "second"


@pytest.mark.parametrize("private", ["shared", "first/private", "first/deep/er/private"])
def test_a_second_directory_is_refused_and_told_what_to_do(tmp_path, first, second, private):
    folder = tmp_path / private / "cohort"
    for _ in range(2):
        private_owner.claim(folder, first)
    assert (folder / "owner").stat().st_mode & 0o777 == 0o600
    for call in (private_owner.claim, private_owner.refuse_other_owner):
        with pytest.raises(ConfigError) as refusal:
            call(folder, second)
        assert f"belongs to the working directory {first}," in str(refusal.value)
        assert "Rename the cohort here" in str(refusal.value) and f"delete {folder / 'owner'}" in str(refusal.value)
    private_owner.claim(tmp_path / private / "other", second)
    (folder / "owner").unlink()
    private_owner.claim(folder, second)
    with pytest.raises(ConfigError, match=f"working directory {second}"):
        private_owner.claim(folder, first)


@pytest.mark.parametrize("change", [shutil.move, shutil.copytree])
@pytest.mark.parametrize("private", ["private", "deep/er/private"])
def test_a_directory_takes_the_private_folder_in_it_along(tmp_path, first, change, private):
    private_owner.claim(first / private / "cohort", first)
    elsewhere = tmp_path / "else/where"
    elsewhere.parent.mkdir()
    change(first, elsewhere)
    private_owner.claim(elsewhere / private / "cohort", elsewhere)


def test_a_directory_that_was_moved_away_from_its_private_folder_is_refused(tmp_path, first):
    private_owner.claim(tmp_path / "shared/cohort", first)
    shutil.move(first, tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"was moved or deleted, delete .*/shared/cohort/owner and run again"):
        private_owner.claim(tmp_path / "shared/cohort", tmp_path / "moved")


def test_links_count_as_what_they_lead_to(tmp_path, first, second):
    (tmp_path / "shared").mkdir()
    for directory in (first, second):
        (directory / "private").symlink_to(tmp_path / "shared")
    (tmp_path / "link").symlink_to(first)
    private_owner.claim(first / "private/cohort", first)
    private_owner.claim(tmp_path / "link/private/cohort", tmp_path / "link")
    with pytest.raises(ConfigError, match=f"working directory {first}"):
        private_owner.claim(second / "private/cohort", second)


def claims(directory: Path) -> bool:
    directory.mkdir()
    try:
        private_owner.claim(directory.parent / "shared/cohort", directory)
    except ConfigError:
        return False
    return True


def test_of_many_that_claim_at_once_one_gets_it(tmp_path):
    directories = [tmp_path / str(number) for number in range(8)]
    with ProcessPoolExecutor(8, multiprocessing.get_context("fork")) as pool:
        claimed = list(pool.map(claims, directories))
    assert claimed == [str(directory) in (tmp_path / "shared/cohort/owner").read_text() for directory in directories]
    assert sum(claimed) == 1


@pytest.mark.parametrize("name", ["files/00000.parquet", "thesis.docx", "linkage.csv", ".profile"])
def test_somebody_elses_folder_is_refused_and_left_alone(tmp_path, first, name):
    file = tmp_path / "home/cohort" / name
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(ConfigError, match="home/cohort holds files that this workflow did not write"):
        private_owner.claim(tmp_path / "home/cohort", first)
    assert [path for path in (tmp_path / "home/cohort").rglob("*") if path.is_file()] == [file]


@pytest.mark.parametrize("names", [[], ["linkage.parquet", "files"], ["identities.parquet"], ["unfinished"]])
def test_an_empty_folder_or_one_of_ours_is_taken(tmp_path, first, names):
    (tmp_path / "shared/cohort").mkdir(parents=True)
    for name in names:
        place = tmp_path / "shared/cohort" / name
        (beside(place) if name == "unfinished" else place).touch()
    private_owner.claim(tmp_path / "shared/cohort", first)
    assert (tmp_path / "shared/cohort/owner").read_text() == f"{first}\n"


def test_a_lock_is_waited_for(tmp_path):
    lock = tmp_path / "private/cohort/index.lock"
    order = []
    with ThreadPoolExecutor(1) as pool:
        with alone(lock):
            waiting = pool.submit(append_alone, lock, order)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            order.append("first")
        waiting.result(timeout=30)
    assert order == ["first", "second"]
    assert lock.stat().st_mode & 0o777 == 0o600


def append_alone(lock: Path, order: list[str]) -> None:
    with alone(lock):
        order.append("second")
