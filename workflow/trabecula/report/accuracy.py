"""Tables of calibration, thresholds, grades, strata and precision, ready to print."""

from collections.abc import Iterator, Sequence

from trabecula.report import words
from trabecula.report.cells import Cell, Line, Row, Table, figure, headings, pick, plain

COMPARED = ("network", "hu")
CALIBRATION = ("calibration_slope", "calibration_intercept", "ici", "brier")
AGREEMENT = ("bias", "limit_low", "limit_high", "ccc", "icc_a1", "pearson_r", "spearman_rho", "kappa")
GRADES = ("normal", "low", "osteoporosis")


def _groups(rows: Sequence[Row], *columns: str) -> Iterator[tuple[tuple, list[Row]]]:
    """Rows that share the values of these columns, in the order of the rows."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    yield from found.items()


def _compared(rows: Sequence[Row], *, own: bool = True) -> list[Row]:
    sets = words.OWN_SETS if own else tuple(words.SET)
    chosen = [row for row in rows if row["predictor"] in COMPARED and row["set"] in sets]
    return sorted(chosen, key=lambda row: sets.index(row["set"]))


def of_metrics(rows: Sequence[Row], metrics: Sequence[str], caption: str) -> Table:
    """Some figures of network and HU alone, on the patients of this run."""
    lines = []
    for (name, predictor), own in _groups(_compared(rows), "set", "predictor"):
        found = [pick(own, metric=metric) for metric in metrics]
        if any(found):
            lines.append(Line(plain(words.SET[name], words.PREDICTOR[predictor]), tuple(map(figure, found))))
    return Table(caption, (*plain("Patients", "Predictor"), *headings(metrics)), tuple(lines))


def thresholds(rows: Sequence[Row]) -> Table:
    """What each cut of the probability gives."""
    metrics = ("recall", "specificity", "precision", "npv")
    lines = tuple(
        Line(
            plain(words.SET[name], words.PREDICTOR[predictor], f"{cut:g}"),
            tuple(figure(pick(own, metric=m)) for m in metrics),
        )
        for (name, predictor, cut), own in _groups(_compared(rows), "set", "predictor", "threshold")
    )
    columns = (*plain("Patients", "Predictor", "Reduced from a probability of"), *headings(metrics))
    return Table("Other cuts of the probability", columns, lines)


def reclassification(rows: Sequence[Row]) -> Table:
    """Patients by what network and HU alone call them, apart for each class by QCT."""
    cells = [("reduced", "reduced"), ("reduced", "normal"), ("normal", "reduced"), ("normal", "normal")]
    lines = []
    for (name, cut, qct), own in _groups(rows, "set", "threshold", "qct"):
        counts = [pick(own, network=network, hu=hu) for network, hu in cells]
        texts = plain(*(f"{row['n']:,}" if row else words.MISSING for row in counts))
        lines.append(Line(plain(words.SET[name], f"{cut:g}", qct), texts))
    columns = (
        *plain("Patients", "Cut of the network’s probability", "By QCT"),
        *(Cell(f"Network {network}", (f"HU alone {hu}",)) for network, hu in cells),
    )
    return Table("How network and HU alone call the same patients", columns, tuple(lines))


def predictive_values(rows: Sequence[Row]) -> Table:
    """PPV and NPV where reduced density is as common as assumed."""
    metrics = ("ppv", "npv")
    lines = tuple(
        Line(
            plain(words.SET[name], words.PREDICTOR[predictor], words.percent(share)),
            tuple(figure(pick(own, metric=m)) for m in metrics),
        )
        for (name, predictor, share), own in _groups(_compared(rows), "set", "predictor", "prevalence")
    )
    columns = (*plain("Patients", "Predictor", "Prevalence assumed"), *headings(metrics))
    return Table("Predictive values at other prevalences of reduced density", columns, lines)


def grades(rows: Sequence[Row]) -> Table:
    """Grade by QCT against grade by the predictor's vBMD, whole."""
    lines = []
    for (name, predictor, qct), own in _groups(_compared(rows), "set", "predictor", "qct_grade"):
        counts = [pick(own, grade=grade) for grade in GRADES]
        texts = plain(*(f"{row['n']:,}" if row else "0" for row in counts))
        lines.append(Line(plain(words.SET[name], words.PREDICTOR[predictor], qct), texts))
    columns = (
        *plain("Patients", "Predictor", "Grade by QCT"),
        *(Cell(grade.capitalize(), ("by the predictor",)) for grade in GRADES),
    )
    return Table("Grades by QCT and by the predictor’s vBMD, patients", columns, tuple(lines))


def strata(rows: Sequence[Row]) -> Table:
    """The network's figures by stratum, with the test whether they are the same in all its cells."""
    metrics = ("auc", "recall", "specificity", "mae", "bias")
    lines = []
    chosen = [row for row in _compared(rows) if row["predictor"] == "network"]
    for (name, stratum), own in _groups(chosen, "set", "stratum"):
        for (cell,), of_cell in _groups(own, "cell"):
            found = tuple(figure(pick(of_cell, metric=metric)) for metric in metrics)
            lines.append(Line(plain(words.SET[name], words.STRATUM[stratum], cell), found))
        tests = tuple(_interaction(pick(own, metric=metric)) for metric in metrics)
        lines.append(
            Line(plain(words.SET[name], words.STRATUM[stratum], "the same in all groups?"), tests, published=True)
        )
    columns = (*plain("Patients", "Stratum", "Group"), *headings(metrics))
    return Table("The network by stratum; shaded: test of interaction", columns, tuple(lines))


def _interaction(row: Row | None) -> Cell:
    if row is None:
        return Cell(words.MISSING)
    return Cell(words.p_value(row["interaction_p"]), why=row["interaction_reason"] or "")


def precision(rows: Sequence[Row]) -> Table:
    """Short-term precision from repeated scans."""
    metrics, found = ("rms_sd_mg_cm3", "rmscv_percent", "lsc_mg_cm3"), [row for row in rows if row["n"]]
    lines = tuple(
        Line(
            plain(cohort, words.PREDICTOR[predictor], devices, f"{own[0]['days_apart']} days or less"),
            (*(figure(pick(own, metric=metric)) for metric in metrics), Cell(f"{own[0]['degrees_of_freedom']:,}")),
        )
        for (cohort, predictor, devices), own in _groups(found, "cohort", "predictor", "devices")
    )
    columns = (*plain("Cohort", "Predictor", "Devices", "Scans apart"), *headings(metrics), Cell("Degrees of freedom"))
    return Table("Precision from repeated scans of a patient", columns, lines)
