"""What lies behind the study's table: decisions, intervals, cuts, levels, devices, folds and local labels."""

from collections.abc import Sequence
from statistics import median

import pandas as pd

from trabecula.evaluate.recalibration import enough
from trabecula.report import words
from trabecula.report.cells import Cell, Line, Row, Table, figure, headings, pick, plain, values

COMPARED = ("network", "hu")
DECIDED = ("recall", "precision", "specificity", "accuracy")


def decisions(rows: Sequence[Row], metrics: Sequence[Row]) -> Table:
    """Decisions with the right to abstain, and the same figures without it."""
    lines = []
    for name in values(rows, "set"):
        own = [row for row in rows if row["set"] == name]
        cells = [figure(pick(own, metric=metric)) for metric in ("abstention", *DECIDED)]
        lines.append(Line(plain(words.SET[name], "may abstain"), tuple(cells)))
        all_in = [figure(pick(metrics, set=name, predictor="network", metric=metric)) for metric in DECIDED]
        lines.append(Line(plain(words.SET[name], "always decides, at 0.5"), (Cell("none"), *all_in)))
    columns = (*plain("Patients", "Network"), *headings(("abstention", *DECIDED)))
    return Table("Decisions of the network against QCT", columns, tuple(lines))


def abstentions(rows: Sequence[Row]) -> Table:
    """Why there is no decision."""
    lines = tuple(
        Line(
            plain(words.SET[row["set"]], words.DECISION[row["decision"]], words.reason(row["reason"])),
            plain(f"{row['n']:,}"),
        )
        for row in rows
    )
    columns = plain("Patients", "Decision", "Because", "n")
    return Table("Patients without a decision, labelled or not", columns, lines)


def coverage(rows: Sequence[Row]) -> Table:
    """Share of QCT values within their 90 % interval, and the intervals' width."""
    lines = []
    for row in rows:
        share = {"value": row["covered"], **{name: row[name] for name in ("low", "high", "n", "reason")}}
        width = Cell(words.number(row["width_mg_cm3"], 1))
        heads = plain(words.SET[row["set"]], words.STRATUM[row["stratum"]], row["cell"])
        lines.append(Line(heads, (figure({"metric": "right_side", **share}), width)))
    columns = (*plain("Patients", "Stratum", "Group", "Covered"), Cell("Mean width", (words.MG_CM3,)))
    return Table("Share of patients whose QCT value lies in the 90 % interval", columns, tuple(lines))


def near_cuts(rows: Sequence[Row]) -> Table:
    """Errors of network and HU alone near the cuts, on the patients of this run."""
    metrics = ("mae", "bias", "right_side")
    lines = []
    own = [row for row in rows if row["set"] in words.OWN_SETS and row["predictor"] in COMPARED]
    own = sorted(own, key=lambda row: (words.OWN_SETS.index(row["set"]), row["cut_mg_cm3"]))
    for name, cut, predictor in dict.fromkeys((row["set"], row["cut_mg_cm3"], row["predictor"]) for row in own):
        chosen = [row for row in own if (row["set"], row["cut_mg_cm3"], row["predictor"]) == (name, cut, predictor)]
        within = chosen[0]["within_mg_cm3"]
        band = f"{cut - within:g} to {cut + within:g}"
        cells = tuple(figure(pick(chosen, metric=metric)) for metric in metrics)
        lines.append(Line(plain(words.SET[name], band, words.PREDICTOR[predictor]), cells))
    columns = (Cell("Patients"), Cell("QCT value", (words.MG_CM3,)), Cell("Predictor"), *headings(metrics))
    return Table("Errors of patients near the cuts between grades", columns, tuple(lines))


def levels(rows: Sequence[Row]) -> Table:
    """Errors by vertebral level."""
    metrics = ("mae", "rmse", "bias", "pearson_r")
    lines = []
    for name, level, predictor in dict.fromkeys((row["set"], row["level"], row["predictor"]) for row in rows):
        chosen = [row for row in rows if (row["set"], row["level"], row["predictor"]) == (name, level, predictor)]
        cells = tuple(figure(pick(chosen, metric=metric)) for metric in metrics)
        lines.append(Line(plain(words.SET[name], level, words.PREDICTOR[predictor]), cells))
    columns = (*plain("Patients", "Level", "Predictor"), *headings(metrics))
    return Table(
        "Each vertebra against the QCT value of its own level; all: every labelled vertebra, clustered by patient",
        columns,
        tuple(lines),
    )


SPREAD = ("auc", "mae", "rmse", "bias")


def devices(rows: Sequence[Row], metrics: Sequence[Row]) -> Table:
    """Each device judged by networks and lines that never saw it, and all of them together."""
    lines = []
    own = [row for row in rows if row["scheme"] == "device"]
    for held_out, predictor in dict.fromkeys((row["held_out"], row["predictor"]) for row in own):
        chosen = [row for row in own if (row["held_out"], row["predictor"]) == (held_out, predictor)]
        cells = tuple(figure(pick(chosen, metric=metric)) for metric in SPREAD)
        lines.append(Line(plain(held_out, words.PREDICTOR[predictor]), cells))
    together = [row for row in metrics if row["set"] == "leave one device out" and row["predictor"] in words.SHOWN]
    for predictor in values(together, "predictor"):
        cells = tuple(figure(pick(together, predictor=predictor, metric=metric)) for metric in SPREAD)
        lines.append(Line(plain("all held-out devices", words.PREDICTOR[predictor]), cells))
    columns = (*plain("Device left out", "Predictor"), *headings(SPREAD))
    return Table("Leave one device out", columns, tuple(lines))


def fold_spread(rows: Sequence[Row]) -> Table:
    """Median and range of the splits' figures."""
    lines = []
    for scheme, predictor in dict.fromkeys((row["scheme"], row["predictor"]) for row in rows):
        own = [row for row in rows if (row["scheme"], row["predictor"]) == (scheme, predictor)]
        cells = tuple(_range([row for row in own if row["metric"] == metric], metric) for metric in SPREAD)
        lines.append(Line(plain(words.SCHEME[scheme], words.PREDICTOR[predictor]), cells))
    columns = (*plain("Scheme", "Predictor"), *headings(SPREAD))
    return Table(
        "Median (lowest to highest) over the splits of each scheme, test patients only; n is their sum over the splits",
        columns,
        tuple(lines),
    )


def _range(rows: Sequence[Row], metric: str) -> Cell:
    digits = words.METRICS[metric].digits
    defined = [row for row in rows if row["value"] is not None]
    if not defined:
        return Cell(words.MISSING, why="undefined in every split")
    known, n = [row["value"] for row in defined], sum(row["n"] for row in defined)
    ends = f"({words.number(min(known), digits)} to {words.number(max(known), digits)})"
    return Cell(words.number(median(known), digits), (ends, f"{words.counted(len(known), 'split')}, n = {n:,}"))


def recalibration(rows: Sequence[Row]) -> Table:
    """The points of the curve."""
    lines = tuple(
        Line(
            plain(place(row), words.PREDICTOR[row["predictor"]], row["terms"], f"{row['k']}"),
            (Cell(words.number(row["mae_mg_cm3"], 1), (words.interval(row["low"], row["high"], 1) or words.MISSING,)),),
        )
        for row in rows
    )
    columns = (*plain("Patients", "Predictor", "Fitted", "Labels"), Cell("MAE", (words.MG_CM3,)))
    return Table("MAE after a fit to k local labels: mean and 95 % of the draws", columns, lines)


def place(row: Row) -> str:
    """Cohort, device and number of patients of a row of the table recalibration."""
    return ", ".join([row["cohort"], *([row["device_key"]] if row["device_key"] else []), f"n = {row['n']:,}"])


def labels_needed(rows: Sequence[Row]) -> list[str]:
    """How many local labels are enough, a sentence per curve."""
    sentences = []
    frame = pd.DataFrame(rows)
    for where, predictor in dict.fromkeys((place(row), row["predictor"]) for row in rows):
        own = frame[[place(row) == where and row["predictor"] == predictor for row in rows]]
        k, best = enough(own), own.groupby("k")["mae_mg_cm3"].min()
        before, lowest = words.number(best.loc[0], 1), words.number(best.min(), 1)
        who = {"network": "the network", "hu": "HU alone"}[predictor]
        if k == 0:
            said = f"no local label is needed: the MAE of {who} without any, {before}, is within 10 % of the lowest"
        else:
            said = f"{k} local labels bring the MAE of {who} from {before} to within 10 % of the lowest"
        sentences.append(f"{where}: {said} ({lowest} {words.MG_CM3}).")
    return sentences
