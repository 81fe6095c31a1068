"""A content's digest changes with the bytes that a job would read, and with nothing else."""

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trabecula.model.segmenter_settings import Builtin, Masks, NnUNet
from trabecula.runtime.content import content_digest


@given(first=st.binary(max_size=20), second=st.binary(max_size=20))
def test_two_files_have_one_digest_where_they_hold_the_same(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("files")
    for name, content in (("a", first), ("b", second)):
        (folder / name).write_bytes(content)
    assert (content_digest(folder / "a") == content_digest(folder / "b")) == (first == second)


def test_times_do_not_count_and_older_content_does(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("patient_id\nA\n")
    before = content_digest(labels)
    os.utime(labels, (1, 1))
    assert content_digest(labels) == before
    labels.write_text("patient_id\nB\n")
    os.utime(labels, (1, 1))
    assert content_digest(labels) != before


def a_file_more(bundle):
    (bundle / "configs/more.json").touch()


def a_file_less(bundle):
    (bundle / "models/a.safetensors").unlink()


def another_name(bundle):
    (bundle / "models/a.safetensors").rename(bundle / "models/b.safetensors")


def another_byte(bundle):
    (bundle / "configs/metadata.json").write_text("{ }")


def swapped_contents(bundle):
    (bundle / "models/a.safetensors").write_text("{}")
    (bundle / "configs/metadata.json").write_text("weights")


@pytest.mark.parametrize("change", [a_file_more, a_file_less, another_name, another_byte, swapped_contents])
def test_every_file_of_a_folder_counts(tmp_path, change):
    bundle = tmp_path / "bundle"
    for name, text in (("configs/metadata.json", "{}"), ("models/a.safetensors", "weights")):
        (bundle / name).parent.mkdir(parents=True)
        (bundle / name).write_text(text)
    before = content_digest(bundle)
    shutil.copytree(bundle, tmp_path / "copy", copy_function=shutil.copyfile)
    assert content_digest(tmp_path / "copy") == before
    change(bundle)
    assert content_digest(bundle) != before


@pytest.mark.parametrize(
    ("settings", "counted", "not_counted"),
    [
        (Builtin("NETWORK", "cpu"), ["NETWORK/configs/metadata.json", "NETWORK/models/unet.safetensors"], []),
        (
            NnUNet("CODING", "NETWORK", None, "cpu"),
            ["CODING", "NETWORK/plans.json", "NETWORK/fold_0/checkpoint_final.pth"],
            ["NETWORK/fold_0/validation/1.nii.gz", "NETWORK/fold_0/progress.png"],
        ),
        (Masks("CODING", "{study_id}"), ["CODING"], []),
        (Masks("verse", "{study_id}"), [], ["CODING"]),
    ],
)
def test_segmenters_name_the_files_that_their_jobs_read(tmp_path, settings, counted, not_counted):

    def digests():
        return [content_digest(tmp_path / path, pattern=pattern) for path, pattern in settings.read_files]

    for name in counted + not_counted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first")
    for name in not_counted:
        before = digests()
        (tmp_path / name).write_text("second")
        assert digests() == before
    for name in counted:
        before = digests()
        (tmp_path / name).write_text("second")
        assert digests() != before
