"""Overlays: small, readable, without anything about the patient beside the pixels."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from trabecula.image import overlay
from trabecula.image.levels import CODE_OF_LEVEL
from trabecula.image.volume import Volume

L1 = CODE_OF_LEVEL["L1"]


def scan(hu=60, body_mm=20, spacing=(1.0, 1.0, 2.0), seed=None):
    shape = tuple(int(160 / step) for step in spacing)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -80
    far = np.abs(np.moveaxis(np.indices(shape), 0, -1) * spacing - 80).max(axis=-1)
    labels = ((far < body_mm) * L1).astype(np.uint8)
    noise = 0 if seed is None else np.random.default_rng(seed).normal(0, 400, shape)
    return Volume((np.full(shape, hu) + noise).astype(np.int16), affine), Volume(labels, affine)


MARK = overlay.Mark("L1?", L1, (0.0, 0.0, 0.0))


def chunks(webp: bytes) -> list[bytes]:
    """Names of the chunks of a RIFF file."""
    names, at = [], 12
    while at < len(webp):
        name, size = struct.unpack_from("<4sI", webp, at)
        names.append(name)
        at += 8 + size + size % 2
    return names


@pytest.mark.parametrize("seed", [None, 1])
def test_an_overlay_is_small_and_holds_nothing_but_pixels(seed):
    """Even pure noise fits."""
    webp = overlay.draw_overlay(*scan(seed=seed), [MARK])
    assert len(webp) < 40_000
    assert chunks(webp) == [b"VP8 "]
    image = Image.open(io.BytesIO(webp))
    image.load()
    assert not image.getexif()
    assert {"exif", "xmp", "icc_profile"}.isdisjoint(image.info)


def test_overlays_are_isotropic_in_millimetres():
    """A cubic body is a square in both views, whatever the slices' distance."""
    ct, labels = scan(spacing=(0.8, 1.0, 4.0))
    for across, (right, front) in ((0, (0, 1)), (1, (1, 0))):
        along, z = np.arange(40, -40, -1.0), np.arange(40, -40, -1.0)
        points = np.stack(np.broadcast_arrays(right * along, front * along, z[:, None]), axis=-1)
        image = overlay.paint(ct, labels, points, across=across).astype(int)
        tinted = np.ptp(image, axis=-1) > 5
        height, width = (np.ptp(axis) for axis in np.nonzero(tinted))
        assert abs(height - width) <= 4


def test_the_front_is_left_and_the_head_is_up():
    ct, labels = scan(spacing=(2.0, 2.0, 2.0))
    hu = np.full(ct.array.shape, -1000)
    hu[:, 40:, 40:] = 1000
    image = Image.open(io.BytesIO(overlay.draw_overlay(ct.with_array(hu.astype(np.int16)), labels, [MARK])))
    grey = np.asarray(image.convert("L")).astype(int)
    sagittal = grey[:, : int(grey.shape[1] * 115 / 235)]
    up, left = grey.shape[0] // 2, sagittal.shape[1] * 40 // 115
    quarters = sagittal[:up, :left], sagittal[:up, left:], sagittal[up:, :left], sagittal[up:, left:]
    assert max(range(4), key=lambda i: quarters[i].mean()) == 0


def test_the_section_follows_the_centres():
    centres = np.array([[0.0, 10.0, 100.0], [20.0, 0.0, 0.0]])
    x, y = overlay.follow(centres, np.array([150.0, 100.0, 50.0, 0.0, -50.0]))
    np.testing.assert_allclose(x, [0, 0, 10, 20, 20])
    np.testing.assert_allclose(y, [10, 10, 5, 0, 0])


def test_the_same_scan_gives_the_same_overlay():
    assert overlay.draw_overlay(*scan(seed=2), [MARK]) == overlay.draw_overlay(*scan(seed=2), [MARK])
