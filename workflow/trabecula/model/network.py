"""The networks, and the way from a cube around a vertebra to what they see."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from monai.networks.nets.densenet import DenseNet
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trabecula.image.padding import PADDING_HU
from trabecula.model.bundle import OUTPUTS, Roi
from trabecula.model.bundle_checks import side_in_cube

# `small` has 144,000 parameters, `densenet121` 11.2 million (Huang et al., CVPR 2017, doi:10.1109/CVPR.2017.243).
NETWORKS: dict[str, dict[str, Any]] = {
    "small": {"init_features": 16, "growth_rate": 12, "block_config": [2, 2, 2, 2]},
    "densenet121": {"init_features": 64, "growth_rate": 32, "block_config": [6, 12, 24, 16]},
}


# Channels that each scan fact becomes: about -1 to 1. An unknown fact becomes 0.
_SCAN_CHANNELS: dict[str, tuple[Callable[[pd.DataFrame], pd.Series], ...]] = {
    "kvp": (lambda scans: (scans["kvp"].astype(float) - 120.0) / 20.0,),
    "phase": (lambda scans: _in_phase(scans, "portal"), lambda scans: _in_phase(scans, "arterial")),
    "thickness_mm": (lambda scans: (scans["thickness_mm"].astype(float) - 3.0) / 2.0,),
}


def _in_phase(scans: pd.DataFrame, phase: str) -> pd.Series:
    """Give 1 for scans in a contrast phase, 0 for others."""
    return (scans["phase"] == phase).astype(float)


def scan_channels(scans: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float32]:
    """Give the scan facts for the networks as numbers; each is the same all over a region.

    Parameters
    ----------
    scans : DataFrame
        Columns kvp (kV), phase and thickness_mm, a row per region.
    names : sequence of str
        The columns that are used.

    Returns
    -------
    (n, channels) array
        kvp in 20 kV from 120; phase as portal and arterial, 1 or 0; thickness in 2 mm from 3 mm.

    >>> scans = pd.DataFrame({"kvp": [100.0], "phase": ["portal"], "thickness_mm": [5.0]})
    >>> scan_channels(scans, ["kvp", "phase"]).tolist()
    [[-1.0, 1.0, 0.0]]
    """
    channels = [channel(scans).fillna(0.0).to_numpy(np.float32) for name in names for channel in _SCAN_CHANNELS[name]]
    return np.stack(channels, axis=1) if channels else np.zeros((len(scans), 0), np.float32)


def describe(name: str, scan_inputs: Sequence[str]) -> dict[str, Any]:
    """Give the arguments of MONAI's DenseNet for a network's name, as a bundle's metadata hold them.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.
    scan_inputs : sequence of str
        Scan facts that the network is given (see `scan_channels`), as channels beside the voxels' channel.
    """
    channels = 1 + sum(len(_SCAN_CHANNELS[fact]) for fact in scan_inputs)
    return {"spatial_dims": 3, "in_channels": channels, **NETWORKS[name], "bn_size": 4}


def build(arguments: Mapping[str, Any], task: str) -> DenseNet:
    """Build a network with random weights.

    Parameters
    ----------
    arguments : mapping
        The result of `describe`.
    task : str
        One of `bundle.TASKS`; sets the number of outputs.
    """
    return DenseNet(**arguments, out_channels=len(OUTPUTS[task]))


def load(arguments: Mapping[str, Any], task: str, weights: Path, device: torch.device) -> DenseNet:
    """Load a network with weights from a safetensors file, ready for predictions."""
    network = build(arguments, task)
    network.load_state_dict(safetensors.torch.load_file(weights))
    return placed(network, device).eval()


def save(network: DenseNet, path: Path) -> None:
    """Write a network's weights as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(weights, path)


def pick_device(device: str) -> torch.device:
    """Pick the device for ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def placed(module: DenseNet, device: torch.device) -> DenseNet:
    """Move a network to its device, in the memory layout that is fast there."""
    if device.type == "cuda":
        return module.to(device=device, memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    return module.to(device)


def cut_roi(ct: NDArray[np.int16], *, spacing_mm: float, roi: Roi) -> NDArray[np.float16]:
    """Cut the region that a network sees from the middle of a cube.

    Coarser voxels are the mean of those that they cover, so noise goes down as it does in a thicker slice; finer voxels
    are interpolated.

    Parameters
    ----------
    ct : (n, n, n) array
        Cube around a vertebral body, Hounsfield units.
    spacing_mm : float
        Distance between the cube's voxels.
    roi : Roi
        The region; air where it is larger than the cube.

    Returns
    -------
    (roi.size, roi.size, roi.size) array
        Hounsfield units; half precision holds them to 0.5 HU in the window.
    """
    side = side_in_cube(roi.size, roi.spacing_mm, spacing_mm)
    middle = _centred(ct, side)
    if side == roi.size:
        return middle.astype(np.float16)
    cube = torch.from_numpy(middle.astype(np.float32))[None, None]
    if side > roi.size:
        region = functional.interpolate(cube, size=roi.size, mode="area")
    else:
        region = functional.interpolate(cube, size=roi.size, mode="trilinear", align_corners=False)
    return region[0, 0].numpy().astype(np.float16)


def _centred(cube: NDArray, side: int) -> NDArray:
    """Give the middle of a cube, or the cube with air around it where the side is longer."""
    excess = cube.shape[0] - side
    if excess < 0:
        before = -excess // 2
        return np.pad(cube, (before, -excess - before), constant_values=PADDING_HU)
    start = excess // 2
    return cube[(slice(start, start + side),) * 3]


def to_input(hu: Tensor, scan: Tensor, hu_window: tuple[float, float]) -> Tensor:
    """Put a network's input together.

    Parameters
    ----------
    hu : (n, 1, x, y, z) tensor
        Hounsfield units; the window becomes 0 to 1.
    scan : (n, channels) tensor
        See `scan_channels`.
    hu_window : (low, high)

    Returns
    -------
    (n, 1 + channels, x, y, z) tensor
    """
    low, high = hu_window
    scaled = ((hu - low) / (high - low)).clamp(0.0, 1.0)
    return torch.cat([scaled, scan[:, :, None, None, None].expand(-1, -1, *hu.shape[2:])], dim=1)


@torch.inference_mode()
def predict(network: DenseNet, hu: Tensor, scan: Tensor, *, task: str, roi: Roi) -> dict[str, NDArray[np.float64]]:
    """Predict a batch of regions.

    Parameters
    ----------
    network : DenseNet
        In evaluation mode, on its device.
    hu : (n, 1, size, size, size) tensor
        Hounsfield units.
    scan : (n, channels) tensor
        See `scan_channels`.
    task : str
        The task that the network was trained for.
    roi : Roi
        The network's input.

    Returns
    -------
    dict of (n,) arrays
        By output (see `bundle.OUTPUTS`): probability of reduced density, or vBMD in mg/cm3.
    """
    device = next(network.parameters()).device
    with torch.autocast(device.type, enabled=device.type == "cuda"):
        output = network(to_input(hu.to(device).float(), scan.to(device), roi.hu_window)).double()
    predictions = {}
    for i, name in enumerate(OUTPUTS[task]):
        values = torch.sigmoid(output[:, i]) if name.endswith("classification") else output[:, i]
        predictions[name] = values.cpu().numpy()
    return predictions
