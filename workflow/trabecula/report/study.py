"""The study's table, the baselines beside the network, and whether the network is better."""

from collections.abc import Iterator, Sequence

from trabecula.report import words
from trabecula.report.cells import DASH, Cell, Line, Row, Table, figure, headings, pick, plain, values
from trabecula.report.published import Published

# Set below which each of the published rows stands.
BESIDE = {"Training": "training", "Testing": "random grouping", "Independent": "external"}


def study_table(metrics: Sequence[Row], published: Sequence[Published]) -> Table:
    """Networks and HU alone in every set of the study, with the published figures below each.

    Parameters
    ----------
    metrics : sequence of rows
        Of the table metrics.
    published : sequence of Published
    """
    lines = []
    for name in words.STUDY_SETS:
        lines += _of_set(metrics, name, words.SHOWN, words.STUDY)
        lines += [_published(row, words.STUDY) for row in published if BESIDE[row.name] == name]
    return Table("The figures of the study that is followed, for these patients", _columns(words.STUDY), tuple(lines))


def baselines_table(metrics: Sequence[Row]) -> Table:
    """Every predictor, on the patients of this run."""
    lines = [line for name in words.OWN_SETS for line in _of_set(metrics, name, tuple(words.PREDICTOR), words.ALL)]
    return Table("Networks and all baselines, on the same patients and folds", _columns(words.ALL), tuple(lines))


def _columns(metrics: Sequence[str]) -> tuple[Cell, ...]:
    return (*plain("Patients", "Predictor"), *headings(metrics))


def _of_set(metrics: Sequence[Row], name: str, predictors: Sequence[str], columns: Sequence[str]) -> Iterator[Line]:
    own = {(row["predictor"], row["metric"]): row for row in metrics if row["set"] == name}
    for predictor in (one for one in predictors if any(key[0] == one for key in own)):
        cells = tuple(figure(own.get((predictor, column))) for column in columns)
        yield Line(plain(words.SET[name], words.PREDICTOR[predictor]), cells)


def _published(row: Published, columns: Sequence[str]) -> Line:
    cells = tuple(Cell(row.figures.get(column, words.MISSING)) for column in columns)
    return Line((Cell(row.name), Cell("published, other data", (f"n = {row.n}",))), cells, published=True)


def verdicts(comparison: Sequence[Row]) -> Table:
    """Whether the network is better than HU alone, than the best line from HU, and than the network with two heads."""
    asked = [row for row in comparison if row["second"] in ("hu", "joint") or row["best_hu"]]
    order = sorted(asked, key=lambda row: (list(words.SET).index(row["set"]), row["second"] == "joint"))
    lines = tuple(
        Line(plain(words.SET[row["set"]]), (Cell(row["sentence"], why=_best(row)), Cell(numbers(row)))) for row in order
    )
    return Table(
        "Network minus the other on the same patients: DeLong's paired test for AUC, paired bootstrap for MAE",
        plain("Patients", "Outcome", "Figures"),
        lines,
    )


def _best(row: Row) -> str:
    return "the line from HU with the lowest cross-validated MAE" if row["best_hu"] else ""


def differences(comparison: Sequence[Row]) -> Table:
    """The network against everything."""
    lines = []
    for name in values(comparison, "set"):
        own = [row for row in comparison if row["set"] == name]
        for second in values(own, "second"):
            rows = [pick(own, second=second, metric=metric) for metric in ("auc", "mae")]
            cells = tuple(_difference(row) for row in rows)
            lines.append(Line(plain(words.SET[name], words.PREDICTOR[second]), cells))
    columns = plain("Patients", "Compared with", "Difference of AUC", "Difference of MAE")
    return Table("Network minus each other predictor, on the patients that both predict", columns, tuple(lines))


def _difference(row: Row | None) -> Cell:
    if row is None:
        return DASH
    digits = words.METRICS[row["metric"]].digits
    unit = (words.METRICS[row["metric"]].unit,) if row["unit"] else ()
    p_value = (words.p_value(row["p_value"]),) if row["p_value"] is not None else ()
    why = f"undefined: {row['reason']}" if row["reason"] else ""
    ends = words.interval(row["low"], row["high"], digits)
    text = f"{words.number(row['difference'], digits)} {ends}".strip()
    return Cell(text, (*unit, *p_value, f"n = {row['n']:,}"), why)


def numbers(row: Row) -> str:
    """Such as ``AUC 0.950 against 0.930, difference 0.020 (−0.010 to 0.050), p = 0.2, n = 20``."""
    metric = words.METRICS[row["metric"]]
    if row["difference"] is None:
        return f"n = {row['n']:,}"
    first, second, difference = (
        words.number(row[name], metric.digits) for name in ("first_value", "second_value", "difference")
    )
    unit = f" {metric.unit}" if metric.unit else ""
    parts = [
        f"{metric.heading} {first} against {second}{unit}",
        f"difference {difference} {words.interval(row['low'], row['high'], metric.digits)}".strip(),
        *([words.p_value(row["p_value"])] if row["p_value"] is not None else []),
        f"n = {row['n']:,}",
    ]
    return ", ".join(parts)


def left_out(rows: Sequence[Row]) -> Table:
    """Patients that the figures of the shown predictors leave out, for each reason and task."""
    n = {(row["set"], row["reason"], row["predictor"], row["task"]): row["n"] for row in rows}
    asked = [(predictor, task) for predictor in ("network", "hu") for task in ("classification", "regression")]
    meant = {"classification": "reduced or not", "regression": "vBMD"}
    reasons = dict.fromkeys((row["set"], row["reason"]) for row in rows if row["predictor"] in ("network", "hu"))
    lines = tuple(
        Line(
            plain(words.SET[name], words.reason(reason)),
            plain(*(f"{n.get((name, reason, *which), 0):,}" for which in asked)),
        )
        for name, reason in reasons
    )
    columns = tuple(Cell(words.PREDICTOR[predictor], (meant[task],)) for predictor, task in asked)
    return Table("Patients that these figures leave out", (*plain("Patients", "Because"), *columns), lines)
