"""What dropped out, the model and the run, as lines and facts that are ready to print."""

import json
from dataclasses import dataclass

import pyarrow as pa

from trabecula.model.bundle import Bundle
from trabecula.model.uncertainty import Width
from trabecula.report import words


@dataclass(frozen=True)
class Loss:
    """Rows of the table failures that share cohort, stage and reason."""

    cohort: str
    stage: str
    reason: str
    rows: int
    files: int


def losses(failures: pa.Table) -> list[Loss]:
    """Failures by cohort, stage and reason, most frequent first."""
    grouped = failures.group_by(["cohort", "stage", "reason"]).aggregate([([], "count_all"), ("n_files", "sum")])
    found = [
        Loss(row["cohort"], row["stage"], words.reason(row["reason"]), row["count_all"], row["n_files_sum"] or 0)
        for row in grouped.to_pylist()
    ]
    return sorted(found, key=lambda loss: (loss.cohort, loss.stage, -loss.rows, loss.reason))


def model_facts(bundle: Bundle) -> dict[str, str]:
    """Facts of the model card, by name."""
    low, high = bundle.roi.hu_window
    lines = [line for line in bundle.baselines if line.name == "hu"]
    return {
        "Name": bundle.name,
        "Model id": bundle.model_id,
        "Trained on": "simulated patients" if bundle.synthetic else "patients",
        "Tasks": ", ".join(bundle.tasks),
        "Folds": str(len(bundle.folds)),
        "Region": f"{bundle.roi.size}³ voxels of {bundle.roi.spacing_mm:g} mm, {words.number(low, 0)} to {high:.0f} HU",
        "Told besides": ", ".join(bundle.scan_inputs) or "nothing",
        "90 % interval": "; ".join(_width(width) for width in bundle.uncertainty.reference(None).widths),
        "HU alone": "; ".join(
            f"without fold {line.fold}: {line.terms.get('hu', 0.0):.3f} × HU {_signed(line.terms['intercept'])} mg/cm³ "
            f"(n = {line.n:,})"
            for line in lines
        ),
    }


def _width(width: Width) -> str:
    half = words.MISSING if width.half_width_mg_cm3 is None else f"± {width.half_width_mg_cm3:.1f} {words.MG_CM3}"
    return f"{width.group}: {half} (n = {width.n:,})"


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'} {abs(value):.1f}"


def run_facts(runs: pa.Table) -> dict[str, str]:
    """Facts of the run whose tables these are, the last of the table runs, by name."""
    if not runs.num_rows:
        return {}
    run = runs.to_pylist()[-1]
    packages = json.loads(run["packages"])
    return {
        "Run": run["run_id"],
        "Its tables": f"results/runs/{run['run_id']}/tables" if run["kept"] else "no longer kept",
        "Provenance (RO-Crate)": f"results/runs/{run['run_id']}/ro-crate-metadata.json"
        if run["kept"]
        else words.MISSING,
        "Finished": f"{run['finished']:%Y-%m-%d %H:%M} UTC",
        "Trabecula": run["version"] + (f", commit {run['commit']}" if run["commit"] else ""),
        "Configuration (SHA-256)": run["config_hash"],
        "Model": run["model_id"],
        "Packages": ", ".join(f"{name} {version}" for name, version in sorted(packages.items())),
    }
