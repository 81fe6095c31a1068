"""Tables of decisions, 90 % intervals, and errors near the thresholds and by vertebral level."""

from collections.abc import Sequence

from trabecula.report import wording
from trabecula.report.page_table import Cell, Line, Table, figure, groups, headings, pick, plain
from trabecula.report.results import Row

DECIDED = ("recall", "precision", "specificity", "accuracy")


def decisions(rows: Sequence[Row], metrics: Sequence[Row]) -> Table:
    """Show the metrics with decisions that may be withheld, and without that choice."""
    lines = []
    for (name,), group in groups(rows, "set"):
        cells = [figure(pick(group, metric=metric)) for metric in ("abstention", *DECIDED)]
        lines.append(Line(plain(wording.SET[name], "may withhold a decision"), tuple(cells)))
        always = [figure(pick(metrics, set=name, predictor="network", metric=metric)) for metric in DECIDED]
        lines.append(Line(plain(wording.SET[name], "always decides, at 0.5"), (Cell("none"), *always)))
    columns = (*plain("Patients", "Network"), *headings(("abstention", *DECIDED)))
    return Table("Decisions of the network against QCT", columns, tuple(lines))


def abstentions(rows: Sequence[Row]) -> Table:
    """Count the reasons why patients have no decision."""
    lines = tuple(
        Line(
            plain(wording.SET[row["set"]], wording.NO_DECISION[row["decision"]], wording.reason(row["reason"])),
            plain(f"{row['n']:,}"),
        )
        for row in rows
    )
    columns = plain("Patients", "Decision", "Reason", "n")
    return Table("Patients without a decision, with or without a QCT value", columns, lines)


def coverage(rows: Sequence[Row]) -> Table:
    """Show the share of QCT values within the 90 % interval, and the mean width of the intervals."""
    lines = []
    for row in rows:
        share = {"value": row["covered"], **{name: row[name] for name in ("low", "high", "n", "reason")}}
        width = Cell(wording.number(row["width_mg_cm3"], 1))
        heads = plain(wording.SET[row["set"]], wording.STRATUM[row["stratum"]], row["cell"])
        lines.append(Line(heads, (figure({"metric": "share", **share}), width)))
    columns = (*plain("Patients", "Stratum", "Group", "Covered"), Cell("Mean width", (wording.MG_CM3,)))
    return Table("Share of patients whose QCT value lies in the 90 % interval", columns, tuple(lines))


def near_threshold(rows: Sequence[Row]) -> Table:
    """Show the errors of network and HU alone near the thresholds of vBMD, on the patients of this run."""
    metrics, sets = ("mae", "bias", "right_side"), wording.SETS_OF_THIS_RUN
    shown = [row for row in rows if row["set"] in sets and row["predictor"] in wording.NETWORK_AND_HU]
    shown = sorted(shown, key=lambda row: (sets.index(row["set"]), row["cut_mg_cm3"]))
    lines = []
    for (name, threshold, predictor), group in groups(shown, "set", "cut_mg_cm3", "predictor"):
        within = group[0]["within_mg_cm3"]
        band = f"{threshold - within:g} to {threshold + within:g}"
        cells = tuple(figure(pick(group, metric=metric)) for metric in metrics)
        lines.append(Line(plain(wording.SET[name], band, wording.PREDICTOR[predictor]), cells))
    columns = (Cell("Patients"), Cell("QCT value", (wording.MG_CM3,)), Cell("Predictor"), *headings(metrics))
    return Table("Errors in patients near the thresholds between grades", columns, tuple(lines))


def levels(rows: Sequence[Row]) -> Table:
    """Show the errors by vertebral level."""
    metrics = ("mae", "rmse", "bias", "pearson_r")
    lines = tuple(
        Line(
            plain(wording.SET[name], level, wording.PREDICTOR[predictor]),
            tuple(figure(pick(group, metric=metric)) for metric in metrics),
        )
        for (name, level, predictor), group in groups(rows, "set", "level", "predictor")
    )
    columns = (*plain("Patients", "Level", "Predictor"), *headings(metrics))
    caption = (
        "Each vertebra against the QCT value of its own level. “all” pools every labelled vertebra; its intervals "
        "allow for several vertebrae of one patient."
    )
    return Table(caption, columns, lines)
