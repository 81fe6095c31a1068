"""Facts of the model and of the run, by name, as the pages show them."""

import json

import pyarrow as pa

from trabecula.model.bundle import Bundle
from trabecula.model.uncertainty import Width
from trabecula.report import wording


def model_facts(bundle: Bundle) -> dict[str, str]:
    """Give the facts of the model card, by name."""
    roi = bundle.roi
    low, high = roi.hu_window
    lines = [line for line in bundle.baselines if line.name == "hu"]
    return {
        "Name": bundle.name,
        "Model id": bundle.model_id,
        "Trained on": "simulated patients" if bundle.synthetic else "patients",
        "Tasks": ", ".join(bundle.tasks),
        "Folds": str(len(bundle.folds)),
        "Region": f"{roi.size}³ voxels of {roi.spacing_mm:g} mm, {wording.number(low, 0)} to {high:.0f} HU",
        "Scan facts given to the network": scan_facts(bundle),
        "90 % interval": "; ".join(_width(width) for width in bundle.uncertainty.reference(None).widths),
        "HU alone": "; ".join(
            f"without fold {line.fold}: {line.terms.get('hu', 0.0):.3f} × HU {_signed(line.terms['intercept'])} mg/cm³ "
            f"(n = {line.n:,})"
            for line in lines
        ),
    }


def scan_facts(bundle: Bundle) -> str:
    """List the facts of the scan that the network is given besides the image."""
    return ", ".join(bundle.scan_inputs) or "none"


def _width(width: Width) -> str:
    half = wording.MISSING if width.half_width_mg_cm3 is None else f"± {width.half_width_mg_cm3:.1f} {wording.MG_CM3}"
    return f"{width.group}: {half} (n = {width.n:,})"


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'} {abs(value):.1f}"


def run_facts(runs: pa.Table) -> dict[str, str]:
    """Give the facts of the run that made these tables, by name; it is the last one of the table runs."""
    if not runs.num_rows:
        return {}
    run = runs.to_pylist()[-1]
    packages = json.loads(run["packages"])
    return {
        "Run": run["run_id"],
        "Its tables": f"results/runs/{run['run_id']}/tables" if run["kept"] else "no longer kept",
        "Provenance (RO-Crate)": f"results/runs/{run['run_id']}/ro-crate-metadata.json"
        if run["kept"]
        else wording.MISSING,
        "Finished": f"{run['finished']:%Y-%m-%d %H:%M} UTC",
        "Trabecula": run["version"] + (f", commit {run['commit']}" if run["commit"] else ""),
        "Configuration (SHA-256)": run["config_hash"],
        "Model": run["model_id"],
        "Packages": ", ".join(f"{name} {version}" for name, version in sorted(packages.items())),
    }
