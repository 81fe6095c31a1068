"""The networks, and the way from a cube around a vertebra to what they see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from monai.networks.nets.densenet import DenseNet
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trabecula.bundle import Roi

AIR_HU = -1024.0

# `small` has 144,000 parameters, `densenet121` 11.2 million (Huang et al., CVPR 2017, doi:10.1109/CVPR.2017.243).
NETWORKS: dict[str, dict[str, Any]] = {
    "small": {"init_features": 16, "growth_rate": 12, "block_config": [2, 2, 2, 2]},
    "densenet121": {"init_features": 64, "growth_rate": 32, "block_config": [6, 12, 24, 16]},
}


def describe(name: str) -> dict[str, Any]:
    """Arguments of MONAI's DenseNet for a network's name, as a bundle's metadata holds them."""
    return {"spatial_dims": 3, "in_channels": 1, "out_channels": 1, **NETWORKS[name], "bn_size": 4}


def build(arguments: Mapping[str, Any]) -> DenseNet:
    """A network with random weights.

    Parameters
    ----------
    arguments : mapping
        What `describe` gives.
    """
    return DenseNet(**arguments)


def load(arguments: Mapping[str, Any], weights: Path, device: torch.device) -> DenseNet:
    """A network with weights from a safetensors file, ready for predictions."""
    network = build(arguments)
    network.load_state_dict(safetensors.torch.load_file(weights))
    return placed(network, device).eval()


def save(network: DenseNet, path: Path) -> None:
    """Write a network's weights as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(weights, path)


def pick_device(device: str) -> torch.device:
    """The device for ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def placed(module: DenseNet, device: torch.device) -> DenseNet:
    """A network on its device, in the memory layout that is fast there."""
    if device.type == "cuda":
        return module.to(device=device, memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
    return module.to(device)


def cut_roi(ct: NDArray[np.int16], *, spacing_mm: float, roi: Roi) -> NDArray[np.float16]:
    """Cut the region that a network sees from the middle of a cube.

    Coarser voxels are the mean of those that they cover, so noise goes down as it does
    in a thicker slice; finer ones are interpolated.

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
    side = max(round(roi.size * roi.spacing_mm / spacing_mm), 1)
    middle = _centred(ct, side)
    if side == roi.size:
        return middle.astype(np.float16)
    cube = torch.from_numpy(middle.astype(np.float32))[None, None]
    if side > roi.size:
        cut = functional.interpolate(cube, size=roi.size, mode="area")
    else:
        cut = functional.interpolate(cube, size=roi.size, mode="trilinear", align_corners=False)
    return cut[0, 0].numpy().astype(np.float16)


def _centred(cube: NDArray, side: int) -> NDArray:
    """Middle of a cube, or the cube with air around it."""
    excess = cube.shape[0] - side
    if excess < 0:
        before = -excess // 2
        return np.pad(cube, (before, -excess - before), constant_values=int(AIR_HU))
    start = excess // 2
    return cube[(slice(start, start + side),) * 3]


def to_input(hu: Tensor, hu_window: tuple[float, float]) -> Tensor:
    """Hounsfield units to the network's input, 0 to 1."""
    low, high = hu_window
    return ((hu - low) / (high - low)).clamp(0.0, 1.0)


@torch.inference_mode()
def predict(
    network: DenseNet, rois: NDArray[np.float16], index: NDArray[np.int64], *, task: str, roi: Roi, batch_size: int = 32
) -> NDArray[np.float64]:
    """Predict regions, batch by batch.

    Parameters
    ----------
    network : DenseNet
        In evaluation mode, on its device.
    rois : (n, size, size, size) array
        Hounsfield units.
    index : (m,) array
        The regions that are predicted.
    task : {"classification", "regression"}
        What the network was trained for.
    roi : Roi
        The network's input.
    batch_size : int
        Regions per step.

    Returns
    -------
    (m,) array
        Probability of reduced density, or vBMD in mg/cm3.
    """
    device = next(network.parameters()).device
    values = [np.empty(0)]
    for start in range(0, len(index), batch_size):
        hu = torch.from_numpy(rois[index[start : start + batch_size]]).to(device).float()[:, None]
        with torch.autocast(device.type, enabled=device.type == "cuda"):
            output = network(to_input(hu, roi.hu_window))[:, 0].float()
        value = torch.sigmoid(output) if task == "classification" else output
        values.append(value.cpu().numpy().astype(np.float64))
    return np.concatenate(values)
