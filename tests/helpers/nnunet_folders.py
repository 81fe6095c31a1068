"""nnU-Net folders wired by hand, on which TotalSegmentator's real code runs where its weights can't be had.

Each network tells its classes by intensity alone: class k answers 2 c_k x - c_k**2, which is highest for the class
whose centre c_k lies nearest to the voxel's intensity x. The scan to go with them paints every level in its own HU.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from totalsegmentator.map_to_binary import class_map, class_map_5_parts

from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR, RIB
from trabecula.image.volume import Volume
from trabecula.model.totalseg_weights import FOLDERS

# HU of each level in the scan that the networks understand.
HU_OF_LEVEL = {level: 200.0 + 100.0 * i for i, level in enumerate(("L5", "L4", "L3", "L2", "L1", "T12"))}
SOFT_TISSUE_HU = 40.0
RIB_HU = 1300.0
POSTERIOR_HU = 150.0
WINDOW = {"mean": 300.0, "std": 300.0, "median": 300.0, "min": -1024.0, "max": 3000.0}
WINDOW |= {"percentile_00_5": -1000.0, "percentile_99_5": 1400.0}
_FAR = -100.0  # logits are summed in half precision: -1e4 would overflow

_KWARGS = {
    "n_stages": 2,
    "features_per_stage": [4, 4],
    "kernel_sizes": [[3, 3, 3]] * 2,
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op": None,
    "norm_op_kwargs": None,
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin_kwargs": {"inplace": True},
}


def _network(n_classes: int, centres: Mapping[int, float]) -> torch.nn.Module:
    """Make a UNet that passes the intensity through and picks the class with the nearest centre."""
    net: Any = PlainConvUNet(1, conv_op=torch.nn.Conv3d, nonlin=torch.nn.LeakyReLU, num_classes=n_classes, **_KWARGS)
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    middle = (1, 1, 1)
    first = net.encoder.stages[0][0].convs[0].conv.weight.data
    first[0, 0][middle], first[1, 0][middle] = 1.0, -1.0
    # The skip connection comes after the four upsampled features; LeakyReLU(x) - LeakyReLU(-x) = 1.01 x.
    last = net.decoder.stages[0].convs[0].conv.weight.data
    for output, sign in ((0, 1 / 1.01), (1, -1 / 1.01)):
        last[output, 4][middle], last[output, 5][middle] = sign, -sign
    head = net.decoder.seg_layers[-1]
    head.bias.data.fill_(_FAR)
    for index, hu in centres.items():
        c = (hu - WINDOW["mean"]) / WINDOW["std"]
        head.weight.data[index, 0], head.weight.data[index, 1] = 2 * c / 1.01, -2 * c / 1.01
        head.bias.data[index] = -(c**2)
    return net


def _write(folder: Path, spacing_mm: float, labels: Mapping[int, str], centres: Mapping[int, float]) -> None:
    shape = {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet"}
    kwargs = {**_KWARGS, "conv_op": "torch.nn.modules.conv.Conv3d", "nonlin": "torch.nn.LeakyReLU"}
    names = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    resampling = {"data": (False, 3), "seg": (True, 1), "probabilities": (False, 1)}
    full = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [64, 64, 64],
        "median_image_size_in_voxels": [64.0, 64.0, 64.0],
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {**shape, "arch_kwargs": kwargs, "_kw_requires_import": names},
        "batch_dice": False,
    }
    for name, (is_seg, order) in resampling.items():
        full[f"resampling_fn_{name}"] = "resample_data_or_seg_to_shape"
        full[f"resampling_fn_{name}_kwargs"] = {
            "is_seg": is_seg,
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    plans = {
        "dataset_name": folder.parent.name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [spacing_mm] * 3,
        "original_median_shape_after_transp": [64, 64, 64],
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": WINDOW},
        "configurations": {"3d_fullres": full},
    }
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0}, "numTraining": 1, "file_ending": ".nii.gz"}
    dataset["labels"] |= {name: index for index, name in labels.items()}
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": _network(len(labels) + 1, centres).state_dict(),
        "trainer_name": folder.name.split("__")[0],
        "inference_allowed_mirroring_axes": None,
        "init_args": {"configuration": "3d_fullres", "plans": plans, "fold": 0, "dataset_json": dataset},
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def painted_scan() -> tuple[Volume, Volume]:
    """Make a CT of six painted vertebrae with a rib, and their canonical label map, 2 mm, patient-aligned."""
    labels = np.zeros((60, 60, 110), np.uint8)
    for i, level in enumerate(HU_OF_LEVEL):
        low = 4 + 17 * i
        labels[18:42, 30:48, low : low + 13] = CODE_OF_LEVEL[level]
        labels[26:34, 12:24, low : low + 13] = POSTERIOR + CODE_OF_LEVEL[level]
    labels[46:54, 20:50, 92:98] = RIB
    hu = np.full(labels.shape, SOFT_TISSUE_HU)
    hu[0], hu[-1] = -1000, -1000
    for level, value in HU_OF_LEVEL.items():
        hu[labels == CODE_OF_LEVEL[level]] = value
        hu[labels == POSTERIOR + CODE_OF_LEVEL[level]] = POSTERIOR_HU
    hu[labels == RIB] = RIB_HU
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -60, -60, -110
    return Volume(hu.astype(np.int16), affine), Volume(labels, affine)


def write_network(folder: Path, spacing_mm: float, reader: str = "NibabelIOWithReorient") -> None:
    """Write an nnU-Net with a class per body of `painted_scan`, in the order of `HU_OF_LEVEL` from 1, then the rest."""
    names = dict(enumerate([*(f"vertebrae_{level}" for level in HU_OF_LEVEL), "posterior"], start=1))
    centres = {0: SOFT_TISSUE_HU} | dict(enumerate([*HU_OF_LEVEL.values(), POSTERIOR_HU], start=1))
    _write(folder, spacing_mm, names, centres)
    plans = json.loads((folder / "plans.json").read_text())
    (folder / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": reader}))


def write_weights(folder: Path) -> None:
    """Write the folders of the tasks `total`, its 3 mm model, and `vertebrae_body` under `folder`."""
    total, parts = class_map["total"], class_map_5_parts
    trainer = "nnUNetTrainerNoMirroring"
    rough = "nnUNetTrainer_4000epochs_NoMirroring"

    def by_level(labels: Mapping[int, str]) -> dict[int, float]:
        index = {name: i for i, name in labels.items()}
        return {0: SOFT_TISSUE_HU} | {index[f"vertebrae_{level}"]: hu for level, hu in HU_OF_LEVEL.items()}

    def write(number: int, trainer: str, spacing_mm: float, labels: Mapping[int, str], centres: Mapping[int, float]):
        name = next(name for names in FOLDERS.values() for name in names if f"Dataset{number}_" in name)
        _write(folder / name / f"{trainer}__nnUNetPlans__3d_fullres", spacing_mm, labels, centres)

    rib = next(i for i, name in total.items() if name == "rib_left_12")
    for number, spacing_mm in ((298, 6.0), (297, 3.0)):
        write(number, rough, spacing_mm, total, by_level(total) | {rib: RIB_HU})
    vertebrae, ribs = parts["class_map_part_vertebrae"], parts["class_map_part_ribs"]
    write(292, trainer, 1.5, vertebrae, by_level(vertebrae))
    # Far beyond the vertebrae's intensities, so that these are background to it.
    rib = next(i for i, name in ribs.items() if name == "rib_left_12")
    write(295, trainer, 1.5, ribs, {0: SOFT_TISSUE_HU, rib: 2000.0})
    # Everything brighter than 170 HU is body here; posterior elements are painted darker than that.
    write(305, "nnUNetTrainer_DASegOrd0", 1.5, class_map["vertebrae_body"], {0: SOFT_TISSUE_HU, 1: 300.0})
    # TotalSegmentator wants the folders of all parts to be there, and reads only those of the regions asked for.
    for name in FOLDERS["total"]:
        (folder / name).mkdir(exist_ok=True)
