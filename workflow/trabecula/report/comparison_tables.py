"""Tables of the reference study's figures, of the baselines, and of the network against the other predictors."""

from collections.abc import Iterator, Sequence

from trabecula.report import wording
from trabecula.report.page_table import DASH, Cell, Line, Table, figure, groups, headings, pick, plain
from trabecula.report.reference_study import Published
from trabecula.report.results import Row

# Set below which each published row of the reference study stands.
PUBLISHED_BELOW = {"Training": "training", "Testing": "random grouping", "Independent": "external"}


def reference_study_table(metrics: Sequence[Row], published: Sequence[Published]) -> Table:
    """Show networks and HU alone in every set of the reference study, with its published figures below each set.

    Parameters
    ----------
    metrics : sequence of rows
        Of the table metrics.
    published : sequence of Published
    """
    columns = wording.REFERENCE_STUDY_METRICS
    lines = []
    for name in wording.REFERENCE_STUDY_SETS:
        lines += _of_set(metrics, name, wording.MAIN_PREDICTORS, columns)
        lines += [_published(row, columns) for row in published if PUBLISHED_BELOW[row.name] == name]
    return Table("The figures of the reference study, computed for these patients", _headings(columns), tuple(lines))


def baselines_table(metrics: Sequence[Row]) -> Table:
    """Show every predictor on the patients of this run."""
    columns, predictors = wording.ALL_METRICS, tuple(wording.PREDICTOR)
    lines = [line for name in wording.SETS_OF_THIS_RUN for line in _of_set(metrics, name, predictors, columns)]
    return Table("Networks and all baselines, on the same patients and folds", _headings(columns), tuple(lines))


def _headings(metrics: Sequence[str]) -> tuple[Cell, ...]:
    return (*plain("Patients", "Predictor"), *headings(metrics))


def _of_set(metrics: Sequence[Row], name: str, predictors: Sequence[str], columns: Sequence[str]) -> Iterator[Line]:
    rows = {(row["predictor"], row["metric"]): row for row in metrics if row["set"] == name}
    present = {predictor for predictor, _ in rows}
    for predictor in (predictor for predictor in predictors if predictor in present):
        cells = tuple(figure(rows.get((predictor, column))) for column in columns)
        yield Line(plain(wording.SET[name], wording.PREDICTOR[predictor]), cells)


def _published(row: Published, columns: Sequence[str]) -> Line:
    cells = tuple(Cell(row.figures.get(column, wording.MISSING)) for column in columns)
    return Line((Cell(row.name), Cell("published, other data", (f"n = {row.n}",))), cells, published=True)


def outcomes(comparison: Sequence[Row]) -> Table:
    """Say whether the network is better than HU alone, the best line from HU, and the network with two heads."""
    rows = [row for row in comparison if row["second"] in ("hu", "joint") or row["best_hu"]]
    rows = sorted(rows, key=lambda row: (list(wording.SET).index(row["set"]), row["second"] == "joint"))
    lines = tuple(
        Line(plain(wording.SET[row["set"]]), (Cell(row["sentence"], why=_best(row)), Cell(numbers(row))))
        for row in rows
    )
    return Table(
        "Network minus the other on the same patients: DeLong's paired test for AUC, paired bootstrap for MAE",
        plain("Patients", "Outcome", "Figures"),
        lines,
    )


def _best(row: Row) -> str:
    return "the line from HU with the lowest cross-validated MAE" if row["best_hu"] else ""


def differences(comparison: Sequence[Row]) -> Table:
    """Show the differences of AUC and MAE between the network and every other predictor."""
    lines = []
    # Sets one after the other, also where the rows of a set are not together.
    for (name,), of_set in groups(comparison, "set"):
        for (second,), group in groups(of_set, "second"):
            cells = tuple(_difference(pick(group, metric=metric)) for metric in ("auc", "mae"))
            lines.append(Line(plain(wording.SET[name], wording.PREDICTOR[second]), cells))
    columns = plain("Patients", "Compared with", "Difference of AUC", "Difference of MAE")
    return Table("Network minus each other predictor, on the patients that both predict", columns, tuple(lines))


def _difference(row: Row | None) -> Cell:
    if row is None:
        return DASH
    metric = wording.METRICS[row["metric"]]
    unit = (metric.unit,) if row["unit"] else ()
    p_value = (wording.p_value(row["p_value"]),) if row["p_value"] is not None else ()
    why = f"undefined: {row['reason']}" if row["reason"] else ""
    ends = wording.interval(row["low"], row["high"], metric.digits)
    text = f"{wording.number(row['difference'], metric.digits)} {ends}".strip()
    return Cell(text, (*unit, *p_value, f"n = {row['n']:,}"), why)


def numbers(row: Row) -> str:
    """Write a comparison, such as ``AUC 0.950 against 0.930, difference 0.020 (−0.010 to 0.050), p = 0.2, n = 20``."""
    metric = wording.METRICS[row["metric"]]
    if row["difference"] is None:
        return f"n = {row['n']:,}"
    first, second, difference = (
        wording.number(row[name], metric.digits) for name in ("first_value", "second_value", "difference")
    )
    unit = f" {metric.unit}" if metric.unit else ""
    parts = [
        f"{metric.heading} {first} against {second}{unit}",
        f"difference {difference} {wording.interval(row['low'], row['high'], metric.digits)}".strip(),
        *([wording.p_value(row["p_value"])] if row["p_value"] is not None else []),
        f"n = {row['n']:,}",
    ]
    return ", ".join(parts)


def left_out(rows: Sequence[Row]) -> Table:
    """Count the patients whom the figures of network and HU alone leave out, by reason and task."""
    tasks = {"classification": "reduced or not", "regression": "vBMD"}
    shown = [row for row in rows if row["predictor"] in wording.NETWORK_AND_HU]
    columns = [(predictor, task) for predictor in wording.NETWORK_AND_HU for task in tasks]
    counts = {(row["set"], row["reason"], row["predictor"], row["task"]): row["n"] for row in shown}
    lines = tuple(
        Line(
            plain(wording.SET[name], wording.reason(reason)),
            plain(*(f"{counts.get((name, reason, *column), 0):,}" for column in columns)),
        )
        for name, reason in dict.fromkeys((row["set"], row["reason"]) for row in shown)
    )
    heads = tuple(Cell(wording.PREDICTOR[predictor], (tasks[task],)) for predictor, task in columns)
    return Table("Patients whom these figures leave out", (*plain("Patients", "Reason"), *heads), lines)
