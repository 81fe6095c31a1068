"""Tables of agreement, calibration, thresholds, grades, strata and precision."""

from collections.abc import Iterator, Sequence
from typing import get_args

from trabecula.density.thresholds import Grade
from trabecula.report import wording
from trabecula.report.page_table import Cell, Line, Table, figure, groups, headings, pick, plain
from trabecula.report.results import Row

CALIBRATION = ("calibration_slope", "calibration_intercept", "ici", "brier")
AGREEMENT = ("bias", "limit_low", "limit_high", "ccc", "icc_a1", "pearson_r", "spearman_rho", "kappa")
STRATA = ("auc", "recall", "specificity", "mae", "bias")


def _network_and_hu(rows: Sequence[Row]) -> list[Row]:
    """Select the rows of network and HU alone on the patients of this run, in the order of the sets."""
    sets = wording.SETS_OF_THIS_RUN
    selected = [row for row in rows if row["predictor"] in wording.NETWORK_AND_HU and row["set"] in sets]
    return sorted(selected, key=lambda row: sets.index(row["set"]))


def of_metrics(rows: Sequence[Row], metrics: Sequence[str], caption: str) -> Table:
    """Show some metrics of network and HU alone, on the patients of this run."""
    lines = []
    for (name, predictor), group in groups(_network_and_hu(rows), "set", "predictor"):
        shown = [pick(group, metric=metric) for metric in metrics]
        if any(shown):
            lines.append(Line(plain(wording.SET[name], wording.PREDICTOR[predictor]), tuple(map(figure, shown))))
    return Table(caption, (*plain("Patients", "Predictor"), *headings(metrics)), tuple(lines))


def thresholds(rows: Sequence[Row]) -> Table:
    """Show the metrics at each threshold of the probability."""
    metrics = ("recall", "specificity", "precision", "npv")
    lines = tuple(
        Line(
            plain(wording.SET[name], wording.PREDICTOR[predictor], f"{threshold:g}"),
            tuple(figure(pick(group, metric=metric)) for metric in metrics),
        )
        for (name, predictor, threshold), group in groups(_network_and_hu(rows), "set", "predictor", "threshold")
    )
    columns = (*plain("Patients", "Predictor", "Reduced from a probability of"), *headings(metrics))
    return Table("Other thresholds of the probability", columns, lines)


def reclassification(rows: Sequence[Row]) -> Table:
    """Count patients by the classes that network and HU alone give them, apart for each class by QCT."""
    classes = [("reduced", "reduced"), ("reduced", "normal"), ("normal", "reduced"), ("normal", "normal")]
    lines = []
    for (name, threshold, qct), group in groups(rows, "set", "threshold", "qct"):
        counts = [pick(group, network=network, hu=hu) for network, hu in classes]
        texts = plain(*(f"{row['n']:,}" if row else wording.MISSING for row in counts))
        lines.append(Line(plain(wording.SET[name], f"{threshold:g}", qct), texts))
    columns = (
        *plain("Patients", "Threshold of the network’s probability", "By QCT"),
        *(Cell(f"Network {network}", (f"HU alone {hu}",)) for network, hu in classes),
    )
    return Table("The same patients as classified by the network and by HU alone", columns, tuple(lines))


def predictive_values(rows: Sequence[Row]) -> Table:
    """Show PPV and NPV at each assumed prevalence of reduced density."""
    metrics = ("ppv", "npv")
    lines = tuple(
        Line(
            plain(wording.SET[name], wording.PREDICTOR[predictor], wording.percent(share)),
            tuple(figure(pick(group, metric=metric)) for metric in metrics),
        )
        for (name, predictor, share), group in groups(_network_and_hu(rows), "set", "predictor", "prevalence")
    )
    columns = (*plain("Patients", "Predictor", "Prevalence assumed"), *headings(metrics))
    return Table("Predictive values at other prevalences of reduced density", columns, lines)


def grades(rows: Sequence[Row]) -> Table:
    """Count patients by grade by QCT and by grade by the predictor's vBMD."""
    lines = []
    for (name, predictor, qct), group in groups(_network_and_hu(rows), "set", "predictor", "qct_grade"):
        counts = [pick(group, grade=grade) for grade in get_args(Grade)]
        texts = plain(*(f"{row['n']:,}" if row else "0" for row in counts))
        lines.append(Line(plain(wording.SET[name], wording.PREDICTOR[predictor], qct), texts))
    columns = (
        *plain("Patients", "Predictor", "Grade by QCT"),
        *(Cell(grade.capitalize(), ("by the predictor",)) for grade in get_args(Grade)),
    )
    return Table("Grades by QCT and by the predictor’s vBMD, patients", columns, tuple(lines))


def strata(rows: Sequence[Row]) -> Table:
    """Show the network's metrics in each group of each stratum, with tests whether the groups differ."""
    of_network = [row for row in _network_and_hu(rows) if row["predictor"] == "network"]
    lines = [line for (name, stratum), group in groups(of_network, "set", "stratum")
             for line in _stratum(group, plain(wording.SET[name], wording.STRATUM[stratum]))]  # fmt: skip
    columns = (*plain("Patients", "Stratum", "Group"), *headings(STRATA))
    return Table("The network by stratum; shaded: test whether the groups differ (interaction)", columns, tuple(lines))


def _stratum(rows: Sequence[Row], heads: tuple[Cell, ...]) -> Iterator[Line]:
    """Make a line per group of a stratum, and a last one with the tests."""
    for (name,), group in groups(rows, "cell"):
        yield Line((*heads, Cell(name)), tuple(figure(pick(group, metric=metric)) for metric in STRATA))
    tests = tuple(_interaction(pick(rows, metric=metric)) for metric in STRATA)
    yield Line((*heads, Cell("the same in all groups?")), tests, published=True)


def _interaction(row: Row | None) -> Cell:
    if row is None:
        return Cell(wording.MISSING)
    return Cell(wording.p_value(row["interaction_p"]), why=row["interaction_reason"] or "")


def precision(rows: Sequence[Row]) -> Table:
    """Show the short-term precision from repeated scans."""
    metrics = ("rms_sd_mg_cm3", "rmscv_percent", "lsc_mg_cm3")
    repeated = [row for row in rows if row["n"]]
    lines = tuple(
        Line(
            plain(cohort, wording.PREDICTOR[predictor], devices, f"{group[0]['days_apart']} days or less"),
            (
                *(figure(pick(group, metric=metric)) for metric in metrics),
                Cell(f"{group[0]['degrees_of_freedom']:,}"),
            ),
        )
        for (cohort, predictor, devices), group in groups(repeated, "cohort", "predictor", "devices")
    )
    columns = (*plain("Cohort", "Predictor", "Devices", "Scans apart"), *headings(metrics), Cell("Degrees of freedom"))
    return Table("Precision from repeated scans of a patient", columns, lines)
