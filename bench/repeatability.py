"""Measure how well density repeats when the same synthetic patient is scanned again in another way.

Run it as ``PYTHONPATH=workflow python bench/repeatability.py``; see bench/README.md.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from measure import publish, table
from scipy.stats import chi2

from trabecula import crop, measure, phantom
from trabecula.density import calibrate, tissue
from trabecula.image.volume import Volume
from trabecula.phantom.devices import Device
from trabecula.phantom.population import Patient
from trabecula.runtime import config

SCHEMA = Path(__file__).parents[1] / "workflow" / "schemas" / "config.schema.yaml"
LEVELS = ("L1", "L2")
RODS_MG_CM3 = (0.0, 50.0, 100.0, 200.0)
METHODS = ("phantomless", "phantom", "device")
SHIFTS_MM = ((0.0, 0.0, 0.0), (3.3, -4.7, 1.1), (-7.9, 6.1, 2.3))
TARGETS = {"kernel": 1.3, "position": 1.5, "device": 5.0}
REFERENCE = "alpha"

Segment = Callable[[Volume], Volume]


@dataclass(frozen=True)
class Scan:
    """A way to scan a patient; `groups` are the changes that it takes part in."""

    groups: tuple[str, ...]
    device: str = REFERENCE
    seed: int = 1
    thickness_mm: float = 2.5
    sharp: bool = False
    shift_mm: tuple[float, float, float] = SHIFTS_MM[0]
    kvp: int = 120
    phase: str = "native"


def scans() -> list[Scan]:
    """List the scans: the reference, which is in all groups, and one change at a time."""
    others = [name for name in phantom.DEVICES if name != REFERENCE]
    everywhere = ("noise", "kernel", "thickness", "position", "device", "voltage", "contrast")
    return [
        Scan(everywhere),
        Scan(("noise",), seed=2),
        Scan(("kernel",), sharp=True),
        Scan(("thickness",), thickness_mm=5.0),
        *(Scan(("position",), shift_mm=shift, seed=3 + i) for i, shift in enumerate(SHIFTS_MM[1:])),
        *(
            Scan(("device",), name, 5, phantom.DEVICES[name].thickness_mm, kvp=phantom.DEVICES[name].kvp)
            for name in others
        ),
        *(Scan(("voltage",), kvp=kvp, seed=6) for kvp in (80, 140)),
        *(Scan(("contrast",), phase=phase, seed=7) for phase in ("portal", "arterial")),
    ]


def device_of(scan: Scan) -> Device:
    """Give the simulated scanner of a scan."""
    return replace(phantom.DEVICES[scan.device], kvp=scan.kvp)


def render(patient: Patient, scan: Scan, in_plane_mm: float) -> tuple[Volume, Volume]:
    """Simulate a CT with calibration rods, and give the true label map with it."""
    device = device_of(scan)
    return phantom.render(
        patient,
        device,
        spacing_mm=(in_plane_mm, in_plane_mm, scan.thickness_mm),
        seed=scan.seed,
        kernel=device.sharp_kernel if scan.sharp else None,
        phase=scan.phase,  # type: ignore[arg-type]
        positioning=phantom.Positioning(RODS_MG_CM3, scan.shift_mm),
    )


def measured(patient: Patient, scan: Scan, ct: Volume, labels: Volume, options: dict[str, Any]) -> dict[str, Any]:
    """Measure a row of the table `studies` with the mean trabecular HU of L1 and L2."""
    keys = {"cohort": "bench", "patient_id": patient.patient_id, "study_id": f"{patient.index} {scan}"}
    segmentation = {"segmenter": "", "level_confidence": 1.0, "level_uncertain": False, "level_flags": []}
    vertebrae = [keys | segmentation | {"level": level} for level in LEVELS]
    crops = crop.cut_study(ct, labels, vertebrae, **options["crop"])
    rows = measure.measure_shard(crops, spacing_mm=options["crop"]["spacing_mm"], **options["measure"])
    hu = [row["trabecular_hu_mean"] for row in rows]
    device = device_of(scan)
    key = "|".join(
        (device.maker, device.model, str(scan.kvp), (device.sharp_kernel if scan.sharp else device.kernel).name)
    )
    facts = {"kvp": scan.kvp, "age_years": patient.age_years, "sex": patient.sex, "device_key": key}
    density = {"hu": None if len(hu) < len(LEVELS) or None in hu else float(np.mean(hu))}
    truth = {"truth": float(np.mean([patient.vbmd_mg_cm3[level] for level in LEVELS]))}
    return {
        **keys,
        **facts,
        **density,
        **truth,
        "contrast_agent": None,
        "status": "measured",
        "groups": scan.groups,
        **(tissue.scan_facts(ct, labels)),
    }


def healthy(seed: int, count: int) -> Iterator[Patient]:
    """Draw patients of the endless population whose L1 and L2 are neither fractured nor operated on."""
    index = 0
    while count:
        patient = phantom.sample_patient(seed, index)
        index += 1
        if not set(LEVELS) & {*patient.fractures, *patient.screws, *patient.cement}:
            count -= 1
            yield patient


def with_densities(studies: pd.DataFrame) -> pd.DataFrame:
    """Add a column per calibration; a device's lines come from the other patients' true densities."""
    studies = studies.join(calibrate.contrast_rows(studies))
    labelled = studies.rename(columns={"hu": "trabecular_hu", "truth": "qct_vbmd_mg_cm3"})
    # One scan per patient and device makes a line, as in a cohort.
    devices = calibrate.gather([labelled.drop_duplicates(["patient_id", "device_key", "phase"])], min_patients=3)
    for method in METHODS:
        options = calibrate.Options(method, 3, RODS_MG_CM3, "mg/cm3 HA")
        lines = calibrate.study_lines(studies, options, devices)
        densities = calibrate.calibrated(studies["hu"], studies["study_id"], lines, method=method)
        studies[method] = densities["vbmd_hu_mg_cm3"].astype(float).to_numpy()
        studies[f"{method}_sd"] = densities["vbmd_hu_sd_mg_cm3"].astype(float).to_numpy()
    return studies


def rmscv(values: pd.Series, patients: pd.Series) -> tuple[float, float, float, int]:
    """Compute the root mean square coefficient of variation in per cent, its 95 % interval, and its degrees of freedom.

    Gluer et al., Osteoporos Int 1995;5:262-70 (doi:10.1007/BF01774016); the interval is that of chi-squared.
    """
    groups = [part for _, part in values.dropna().groupby(patients) if len(part) > 1]
    freedom = sum(len(part) - 1 for part in groups)
    if not freedom:
        return float("nan"), float("nan"), float("nan"), 0
    squares = sum((len(part) - 1) * (part.std(ddof=1) / part.mean()) ** 2 for part in groups)
    value = 100.0 * float(np.sqrt(squares / freedom))
    low, high = (value * float(np.sqrt(freedom / chi2.ppf(p, freedom))) for p in (0.975, 0.025))
    return value, low, high, freedom


def repeatability_lines(studies: pd.DataFrame) -> Iterator[list[str]]:
    """Write a row per change: RMSCV of HU and of each calibration."""
    for group in dict.fromkeys(name for names in studies["groups"] for name in names):
        part = studies[[group in names for names in studies["groups"]]]
        cells = []
        for column in ("hu", *METHODS):
            value, low, high, freedom = rmscv(part[column], part["patient_id"])
            cells.append("undefined" if not freedom else f"{value:.1f} ({low:.1f} to {high:.1f}), {freedom}")
        target = TARGETS.get(group)
        yield [group, *cells, f"<= {target}" if target else ""]


def accuracy_lines(studies: pd.DataFrame) -> Iterator[list[str]]:
    """Write a row per kind of scan: for each method bias, SD, and the SD that the method states."""
    kinds = {
        f"{kvp} kV, native": (studies["kvp"] == kvp) & (studies["phase"] == "native") for kvp in (80, 100, 120, 140)
    }
    kinds |= {phase: studies["phase"] == phase for phase in ("portal", "arterial")}
    for kind, chosen in kinds.items():
        part = studies[chosen]
        cells = []
        for method in METHODS:
            error = (part[method] - part["truth"]).dropna()
            stated = float(np.sqrt((part[f"{method}_sd"] ** 2).mean()))
            cells.append("none" if len(error) < 2 else f"{error.mean():+.1f} ± {error.std():.1f} ({stated:.1f})")
        yield [kind, str(len(part)), *cells]


def main() -> None:
    """Scan, measure and calibrate, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--in-plane-mm", type=float, default=1.2)
    parser.add_argument("--network", type=Path, help="bundle of the builtin segmenter; by default true label maps")
    parser.add_argument("--out", type=Path, help="write the report here, too")
    arguments = parser.parse_args()
    options = config.with_defaults({}, yaml.safe_load(SCHEMA.read_text()))
    segment = None if arguments.network is None else load_segmenter(arguments.network)
    rows = []
    for patient in healthy(arguments.seed, arguments.patients):
        for scan in scans():
            ct, labels = render(patient, scan, arguments.in_plane_mm)
            rows.append(measured(patient, scan, ct, labels if segment is None else segment(ct), options))
    studies = with_densities(pd.DataFrame(rows))
    where = "true label maps" if arguments.network is None else "builtin segmenter"
    lines = [f"# Repeatability over {arguments.patients} synthetic patients, {len(studies)} scans, {where}", ""]
    head = ["change", "HU", *METHODS, "target"]
    lines += ["RMSCV in per cent (95 % interval), degrees of freedom; mean of L1 and L2", ""]
    lines += table(head, repeatability_lines(studies))
    lines += ["", "Bias ± SD against the truth in mg/cm3 HA (SD that the method states)", ""]
    lines += table(["scan", "n", *METHODS], accuracy_lines(studies))
    publish(lines, arguments.out)


def load_segmenter(folder: Path) -> Segment:
    """Load the builtin network as a function from a CT to its label map."""
    # Torch takes seconds, and true label maps need none of it.
    from trabecula.model import spine_network
    from trabecula.segment import builtin

    network, _ = spine_network.load_bundle(folder, device="cpu")
    return lambda ct: partial(builtin.segment, network, device="cpu")(ct)[0]


if __name__ == "__main__":
    main()
