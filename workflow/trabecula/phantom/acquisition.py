"""Degrade a painted scan as a scanner does: beam hardening, calibration, kernel, noise."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft2
from scipy.ndimage import uniform_filter1d

from trabecula.phantom.body import Body
from trabecula.phantom.devices import Device, Kernel
from trabecula.phantom.shapes import Array, Grid

HU_MIN, HU_MAX = -1024.0, 3071.0
_REFERENCE_DIAMETER_MM = 300.0
_REFERENCE_THICKNESS_MM = 3.0


def noise_filter(shape: tuple[int, int], spacing_mm: tuple[float, float], peak_per_mm: float) -> Array:
    """Give the amplitude of a CT-like noise spectrum, (rows, columns // 2 + 1): a ramp that the kernel rolls off.

    It is scaled so that its inverse real transform of unit complex noise has unit variance.
    """
    fy = np.fft.fftfreq(shape[0], spacing_mm[0])[:, None]
    fx = np.fft.rfftfreq(shape[1], spacing_mm[1])[None, :]
    f = np.hypot(fy, fx) / peak_per_mm
    amplitude = np.sqrt(f) * np.exp(-(f**2) / 4.0)
    weights = np.full(amplitude.shape[1], 2.0)
    weights[0] = 1.0
    power = float((amplitude**2 * weights).sum())
    return (amplitude * np.sqrt(shape[0] * shape[1]) * np.sqrt(shape[0] * shape[1] / power)).astype(np.float32)


def add_noise(canvas: Array, grid: Grid, sigma_hu: Array, peak_per_mm: float, rng: Generator) -> None:
    """Add textured noise, slice by slice, with an SD that varies over the image (y, x)."""
    rows, columns = canvas.shape[1:]
    spacing = float(grid.y[1] - grid.y[0]), float(grid.x[1] - grid.x[0])
    amplitude = noise_filter((rows, columns), spacing, peak_per_mm) * np.float32(np.sqrt(0.5))
    parts = np.empty((*amplitude.shape, 2), np.float32)
    for image in canvas:
        rng.standard_normal(out=parts, dtype=np.float32)
        spectrum = parts.view(np.complex64)[..., 0] * amplitude
        image += np.asarray(irfft2(spectrum, s=(rows, columns)), np.float32) * sigma_hu


def noise_sigma_hu(grid: Grid, body: Body, device: Device, kernel: Kernel, thickness_mm: float) -> Array:
    """Give the SD of the noise, (y, x): it grows with the body, shrinks with thickness and towards the skin."""
    a, b, middle = (float(v) for v in body.at(float(np.median(grid.z))))
    size = np.exp(0.011 * (2 * np.sqrt(a * b) - _REFERENCE_DIAMETER_MM) * 0.5)
    centre = device.noise_hu * kernel.noise * size * np.sqrt(_REFERENCE_THICKNESS_MM / thickness_mm)
    radius = np.sqrt((grid.x[None, :] / a) ** 2 + ((grid.y[:, None] - middle) / b) ** 2)
    return (centre * (0.55 + 0.45 * np.exp(-(radius**2)))).astype(np.float32)


def beam_hardening_hu(grid: Grid, body: Body) -> Array:
    """Give the smooth cupping offset, (y, x): 0 at the skin and a few HU below in the middle of a large body."""
    a, b, middle = (float(v) for v in body.at(float(np.median(grid.z))))
    radius = (grid.x[None, :] / a) ** 2 + ((grid.y[:, None] - middle) / b) ** 2
    return (-0.03 * (2 * np.sqrt(a * b) - 150) * np.clip(1 - radius, 0, 1)).astype(np.float32)


def sharpen(canvas: Array, strength: float, width: int) -> None:
    """Sharpen edges: add back what a moving average removes, slice by slice."""
    for image in canvas:
        blurred = uniform_filter1d(uniform_filter1d(image, width, axis=0), width, axis=1)
        image += strength * (image - blurred)


def acquire(
    canvas: Array, grid: Grid, device: Device, kernel: Kernel, body: Body, thickness_mm: float, rng: Generator
) -> NDArray[np.int16]:
    """Give the Hounsfield units as a device would store them, (z, y, x) int16; the canvas is used up."""
    if kernel.edge > 0:
        sharpen(canvas, kernel.edge, max(3, round(2.5 / float(grid.x[1] - grid.x[0]))))
    canvas *= np.float32(device.slope)
    canvas += beam_hardening_hu(grid, body) + np.float32(device.offset_hu)
    add_noise(canvas, grid, noise_sigma_hu(grid, body, device, kernel, thickness_mm), kernel.noise_peak_per_mm, rng)
    np.clip(canvas, HU_MIN, HU_MAX, out=canvas)
    np.rint(canvas, out=canvas)
    stored = canvas.astype(np.int16)
    if device.padding_hu is not None:
        stored[:, outside_circle(grid)] = int(device.padding_hu)
    return stored


def outside_circle(grid: Grid) -> NDArray[np.bool_]:
    """Mark the pixels outside the largest circle of the image, (y, x), where nothing is reconstructed."""
    x, y = grid.x - grid.x.mean(), grid.y - grid.y.mean()
    return np.hypot(x[None, :], y[:, None]) > x[-1] + 0.5 * (x[1] - x[0])
