"""Build, apply, save and load the builtin network that outlines the spine.

A MONAI UNet sees CT at 2 mm and tells vertebral bodies, posterior elements, sacrum, ribs,
hips and discs apart. It does not number the vertebrae; `segment.numbering` does.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from trabecula.image.padding import PADDING_HU
from trabecula.image.volume import Volume, aligned_grid, bounds_mm, resample

CLASSES = ("background", "body", "posterior", "sacrum", "rib", "hip", "disc")
BODY, POSTERIOR, SACRUM, RIB, HIP, DISC = range(1, len(CLASSES))

SPACING_MM = 2.0
VOXEL_MM3 = SPACING_MM**3
PATCH = 64
# From fat to cortical bone; what lies outside says nothing about the spine.
HU_WINDOW = (-250.0, 1000.0)


@dataclass(frozen=True)
class SpineMap:
    """Answer of the network for a scan, on a patient-aligned grid of `SPACING_MM`.

    Attributes
    ----------
    probabilities : (len(CLASSES), i, j, k) float16 array
        Probability of each class.
    affine : (4, 4) array
        Voxel indices to RAS+ millimetres.
    seen : (i, j, k) bool array
        Voxels that the scan covers.
    """

    probabilities: NDArray[np.float16]
    affine: NDArray[np.float64]
    seen: NDArray[np.bool_]

    def to_mm(self, voxels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Turn (n, 3) voxel indices into (n, 3) RAS+ millimetres."""
        return Volume(self.seen, self.affine).to_mm(voxels)


def build_network() -> UNet:
    """Build the untrained network of 1.76 million parameters."""
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=len(CLASSES),
        channels=(16, 32, 64, 128, 128),
        strides=(2, 2, 2, 2),
        num_res_units=1,
        norm=("INSTANCE", {"affine": True}),
    )


def to_input(hu: NDArray) -> NDArray[np.float32]:
    """Turn HU into the network's input, -1 to 1 over `HU_WINDOW`.

    >>> to_input(np.array([-1024, -250, 375, 3000])).tolist()
    [-1.0, -1.0, 0.0, 1.0]
    """
    low, high = HU_WINDOW
    return (np.clip(hu, low, high).astype(np.float32) - low) / (high - low) * 2 - 1


def to_grid(ct: Volume) -> tuple[Volume, NDArray[np.bool_]]:
    """Bring CT to the network's grid.

    Parameters
    ----------
    ct : Volume
        HU, any axes and spacing.

    Returns
    -------
    grid : Volume
        float32 HU on a patient-aligned (RAS+) grid of `SPACING_MM`, air outside the scan.
    seen : (i, j, k) bool array
        Voxels of that grid that lie inside the scan.
    """
    shape, affine = aligned_grid(*bounds_mm(ct), SPACING_MM)
    outside = PADDING_HU - 1
    grid = resample(block_means(ct), shape, affine, outside=outside)
    seen = grid.array > outside
    return grid.with_array(np.where(seen, grid.array, PADDING_HU).astype(np.float32)), seen


def block_means(ct: Volume) -> Volume:
    """Average blocks of as many voxels as fit into one of the network's, so that it does not take over their noise.

    Voxels at the ends that fill no block are left out.

    >>> means = block_means(Volume(np.arange(4.0).reshape(4, 1, 1), np.diag([1.0, 2.0, 2.0, 1.0])))
    >>> means.array.ravel().tolist(), means.spacing_mm.tolist(), means.affine[0, 3].item()
    ([0.5, 2.5], [2.0, 2.0, 2.0], 0.5)
    """
    block = np.maximum((SPACING_MM / ct.spacing_mm).astype(int), 1)
    shape = np.array(ct.array.shape) // block
    if np.any(shape == 0) or np.all(block == 1):
        return ct.with_array(ct.array.astype(np.float32))
    whole = ct.array[tuple(slice(0, int(n * b)) for n, b in zip(shape, block, strict=True))]
    parts = whole.reshape(shape[0], block[0], shape[1], block[1], shape[2], block[2])
    affine = ct.affine.copy()
    affine[:3, :3] = ct.affine[:3, :3] * block
    affine[:3, 3] = ct.to_mm([(block - 1) / 2])[0]
    return Volume(parts.mean(axis=(1, 3, 5), dtype=np.float32), affine)


def predict(network: UNet, ct: Volume, *, device: str) -> SpineMap:
    """Predict the class probabilities of a scan (see `SpineMap`)."""
    grid, seen = to_grid(ct)
    batch = torch.from_numpy(to_input(grid.array))[None, None].to(device)
    with torch.inference_mode():
        # Around a scan smaller than the window lies air, which is -1 at the network's input.
        logits = sliding_window_inference(batch, (PATCH,) * 3, 4, network, overlap=0.25, mode="gaussian", cval=-1.0)
        assert isinstance(logits, torch.Tensor)
        probabilities = torch.softmax(logits.float(), dim=1)[0].cpu().numpy().astype(np.float16)
    probabilities[1:, ~seen] = 0
    return SpineMap(probabilities, grid.affine, seen)


def save_bundle(network: UNet, folder: Path, *, facts: Mapping[str, object]) -> None:
    """Write weights (safetensors, half precision) and `configs/metadata.json` with their SHA-256 and all `facts`."""
    weights = folder / "models" / "segmenter.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    (folder / "configs").mkdir(exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, weights)
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()
    metadata = {"name": "segmenter", "classes": CLASSES, "spacing_mm": SPACING_MM, "patch": PATCH}
    metadata |= {"hu_window": HU_WINDOW, "sha256": {weights.name: sha}, **facts}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


def load_bundle(folder: Path, *, device: str) -> tuple[UNet, str]:
    """Read the network and its name with the first digits of the weights' SHA-256.

    Raises
    ------
    ValueError
        If the weights are not those that the metadata name.
    """
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    weights = folder / "models" / "segmenter.safetensors"
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()
    if metadata["sha256"] != {weights.name: sha}:
        raise ValueError(f"the weights in {folder.name} are not those that its metadata name; fetch the bundle again")
    network = build_network()
    network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return network.eval().to(device), f"builtin-{sha[:8]}"
