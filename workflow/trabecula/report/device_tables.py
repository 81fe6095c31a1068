"""Tables of devices left out of the training, of the spread over folds, and of fits to local labels."""

from collections.abc import Sequence
from statistics import median

import pandas as pd

from trabecula.evaluate.recalibration import enough
from trabecula.report import wording
from trabecula.report.page_table import Cell, Line, Table, figure, groups, headings, pick, plain
from trabecula.report.results import Row

METRICS = ("auc", "mae", "rmse", "bias")


def devices(rows: Sequence[Row], metrics: Sequence[Row]) -> Table:
    """Show how well each device is predicted by networks and lines that never saw it, and all devices together."""
    of_devices = [row for row in rows if row["scheme"] == "device"]
    by_device = groups(of_devices, "held_out", "predictor")
    lines = [_line(held_out, predictor, group) for (held_out, predictor), group in by_device]
    together = [row for row in metrics if row["set"] == "leave one device out"]
    together = [row for row in together if row["predictor"] in wording.MAIN_PREDICTORS]
    lines += [_line("all held-out devices", predictor, group) for (predictor,), group in groups(together, "predictor")]
    columns = (*plain("Device left out", "Predictor"), *headings(METRICS))
    return Table("Leave one device out", columns, tuple(lines))


def _line(device: str, predictor: str, rows: Sequence[Row]) -> Line:
    cells = tuple(figure(pick(rows, metric=metric)) for metric in METRICS)
    return Line(plain(device, wording.PREDICTOR[predictor]), cells)


def fold_variability(rows: Sequence[Row]) -> Table:
    """Show the median and the range of each metric over the splits of each scheme."""
    lines = tuple(
        Line(
            plain(wording.SCHEME[scheme], wording.PREDICTOR[predictor]),
            tuple(_range([row for row in group if row["metric"] == metric], metric) for metric in METRICS),
        )
        for (scheme, predictor), group in groups(rows, "scheme", "predictor")
    )
    columns = (*plain("Scheme", "Predictor"), *headings(METRICS))
    caption = (
        "Median (lowest to highest) over the splits of each scheme, in test patients only; n adds up the test "
        "patients of all splits"
    )
    return Table(caption, columns, lines)


def _range(rows: Sequence[Row], metric: str) -> Cell:
    digits = wording.METRICS[metric].digits
    defined = [row for row in rows if row["value"] is not None]
    if not defined:
        return Cell(wording.MISSING, why="undefined in every split")
    figures, n = [row["value"] for row in defined], sum(row["n"] for row in defined)
    ends = f"({wording.number(min(figures), digits)} to {wording.number(max(figures), digits)})"
    small = (ends, f"{wording.counted(len(figures), 'split')}, n = {n:,}")
    return Cell(wording.number(median(figures), digits), small)


def recalibration(rows: Sequence[Row]) -> Table:
    """Show the points of the curves of MAE by the number of local labels."""
    lines = tuple(
        Line(
            plain(place(row), wording.PREDICTOR[row["predictor"]], row["terms"], f"{row['k']}"),
            (
                Cell(
                    wording.number(row["mae_mg_cm3"], 1),
                    (wording.interval(row["low"], row["high"], 1) or wording.MISSING,),
                ),
            ),
        )
        for row in rows
    )
    columns = (*plain("Patients", "Predictor", "Fitted", "Labels"), Cell("MAE", (wording.MG_CM3,)))
    return Table("MAE after a fit to k local labels: mean, and range of 95 % of the random draws", columns, lines)


def place(row: Row) -> str:
    """Name the cohort, device and number of patients of a row of the table recalibration."""
    return ", ".join([row["cohort"], *([row["device_key"]] if row["device_key"] else []), f"n = {row['n']:,}"])


def labels_needed(rows: Sequence[Row]) -> list[str]:
    """Say how many local labels are enough, in one sentence per curve."""
    sentences = []
    curves = pd.DataFrame(rows)
    for where, predictor in dict.fromkeys((place(row), row["predictor"]) for row in rows):
        curve = curves[[place(row) == where and row["predictor"] == predictor for row in rows]]
        sentences.append(f"{where}: {_labels_needed(curve, predictor)}.")
    return sentences


def _labels_needed(curve: pd.DataFrame, predictor: str) -> str:
    k, best = enough(curve), curve.groupby("k")["mae_mg_cm3"].min()
    before, lowest = wording.number(best.loc[0], 1), f"{wording.number(best.min(), 1)} {wording.MG_CM3}"
    name = {"network": "the network", "hu": "HU alone"}[predictor]
    if k == 0:
        return (
            f"{name} needs no local label: its MAE without any, {before}, is within 10 % of its lowest with labels "
            f"({lowest})"
        )
    return f"{k} local labels bring the MAE of {name} from {before} to within 10 % of its lowest ({lowest})"
