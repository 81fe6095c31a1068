"""nnU-Net folders wired by hand, on which TotalSegmentator's real code runs where its weights can't be had.

Each network tells its classes by intensity alone: class k answers 2 c_k x - c_k**2, which is highest for the class
whose centre c_k lies nearest to the voxel's intensity x. The scan to go with them paints every level in its own HU.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from totalsegmentator.map_to_binary import class_map, class_map_5_parts

# HU of each level in the scan that the networks understand.
HU_OF_LEVEL = {level: 200.0 + 100.0 * i for i, level in enumerate(("L5", "L4", "L3", "L2", "L1", "T12"))}
SOFT_TISSUE_HU = 40.0
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
    """A UNet that passes the intensity through and picks the class with the nearest centre."""
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


def write_weights(folder: Path) -> None:
    """Write the folders of the tasks `total` (with regions of interest) and `vertebrae_body` under `folder`."""
    total, vertebrae = class_map["total"], class_map_5_parts["class_map_part_vertebrae"]

    def by_level(labels: Mapping[int, str]) -> dict[int, float]:
        index = {name: i for i, name in labels.items()}
        return {0: SOFT_TISSUE_HU} | {index[f"vertebrae_{level}"]: hu for level, hu in HU_OF_LEVEL.items()}

    def folder_of(dataset: str, trainer: str) -> Path:
        return folder / dataset / f"{trainer}__nnUNetPlans__3d_fullres"

    _write(
        folder_of("Dataset298_TotalSegmentator_total_6mm_1559subj", "nnUNetTrainer_4000epochs_NoMirroring"),
        6.0,
        total,
        by_level(total),
    )
    _write(
        folder_of("Dataset292_TotalSegmentator_part2_vertebrae_1532subj", "nnUNetTrainerNoMirroring"),
        1.5,
        vertebrae,
        by_level(vertebrae),
    )
    # Everything brighter than 170 HU is body here; posterior elements are painted darker than that.
    bodies = class_map["vertebrae_body"]
    _write(
        folder_of("Dataset305_vertebrae_discs_1559subj", "nnUNetTrainer_DASegOrd0"),
        1.5,
        bodies,
        {0: SOFT_TISSUE_HU, 1: 300.0},
    )
    # TotalSegmentator wants the folders of all parts to be there, and reads only those of the regions asked for.
    for part in (
        "291_TotalSegmentator_part1_organs_1559subj",
        "293_TotalSegmentator_part3_cardiac_1559subj",
        "294_TotalSegmentator_part4_muscles_1559subj",
        "295_TotalSegmentator_part5_ribs_1559subj",
    ):
        (folder / f"Dataset{part}").mkdir()
