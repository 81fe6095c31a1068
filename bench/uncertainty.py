"""How well intervals, decisions and warnings work, in simulated patients whose truth is known.

Run it as ``PYTHONPATH=workflow python bench/uncertainty.py``; see docs/uncertainty.md.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from trabecula.density.thresholds import Thresholds
from trabecula.model import uncertainty
from trabecula.model.uncertainty.decision import REDUCED_FROM
from trabecula.model.uncertainty.intervals import EVERYONE, groups
from trabecula.model.uncertainty.novelty import BLOCKING

FOLDS, THRESHOLDS = 5, Thresholds()
# Kinds of scan: contrast phase, voltage, share of the patients, SD of a network's error.
KINDS = (("native", 120.0, 0.6, 8.0), ("portal", 120.0, 0.25, 12.0), ("portal", 80.0, 0.15, 18.0))


@dataclass(frozen=True)
class World:
    """Assumptions on patients and networks.

    Attributes
    ----------
    reduced : float
        Share of the patients with reduced density who are in the cohort.
    bias_mg_cm3, times : float
        Mean error of the networks, and the factor of their errors' SD, as on another device.
    blur_mg_cm3 : float
        SD of the classification network's error in density; 15 gives an AUC of 0.94.
    """

    reduced: float = 1.0
    bias_mg_cm3: float = 0.0
    times: float = 1.0
    blur_mg_cm3: float = 15.0


def patients(world: World, n: int, seed: int, *, networks: int) -> pd.DataFrame:
    """Draw patients who were predicted by one network each, or by the mean of several.

    A third of the error's variance is each network's own. The classification network is three times too sure.
    """
    rng = np.random.default_rng(seed)
    kind = rng.choice(len(KINDS), n, p=[row[2] for row in KINDS])
    truth = rng.normal(THRESHOLDS.reduced_below_mg_cm3, 30.0, n)
    sd = world.times * np.array([row[3] for row in KINDS])[kind]
    own_error = rng.normal(0.0, 1.0, (n, networks)) * np.sqrt(1 / 3)
    error = sd[:, None] * (rng.normal(0.0, np.sqrt(2 / 3), (n, 1)) + own_error)
    by_network = truth[:, None] + world.bias_mg_cm3 + error
    blur = rng.normal(0.0, world.blur_mg_cm3, n)
    score = (THRESHOLDS.reduced_below_mg_cm3 - truth - world.bias_mg_cm3 + blur) / world.blur_mg_cm3
    table = pd.DataFrame(
        {
            "fold": np.arange(n) % FOLDS,
            "logit": 6.0 * score,
            "regression": by_network.mean(axis=1),
            "fold_spread_mg_cm3": by_network.std(axis=1, ddof=1) if networks > 1 else np.nan,
            "hu": truth + rng.normal(0.0, 13.0, n),
            "qct_vbmd_mg_cm3": truth,
            "reduced": truth < THRESHOLDS.reduced_below_mg_cm3,
            "trabecular_hu": 1.2 * truth + rng.normal(10.0, 15.0, n),
            "kvp": [KINDS[i][1] for i in kind],
            "phase": [KINDS[i][0] for i in kind],
            "thickness_mm": 1.0,
            "spacing_mm": 1.0,
            "device_key": "A",
        }
    )
    return table[~table["reduced"] | (rng.random(n) < world.reduced)].reset_index(drop=True)


def judged(cases: pd.DataFrame, learnt: uncertainty.Uncertainty) -> pd.DataFrame:
    """Judge new patients, and add in `one_width` the half width that is the same for all."""
    names = {"regression": "vbmd_mg_cm3", "hu": "hu_baseline_vbmd_mg_cm3"}
    results = cases.rename(columns=names).assign(fold=np.nan)
    everyone = learnt.reference(None).width(EVERYONE).half_width_mg_cm3
    return results.join(uncertainty.judge(results, learnt)).assign(kind=groups(cases), one_width=everyone)


def repeated(world: World, new: World, *, n: int, repeats: int, networks: int) -> pd.DataFrame:
    """Judge new patients by many development cohorts of n patients each."""
    parts = []
    for seed in range(repeats):
        learnt = uncertainty.learn(patients(world, n, seed, networks=1))
        parts.append(judged(patients(new, 1000, 10**6 + seed, networks=networks), learnt).assign(repeat=seed))
    return pd.concat(parts, ignore_index=True)


def coverage(results: pd.DataFrame) -> pd.DataFrame:
    """Give the share of the intervals that hold the truth, and their mean width, by kind of scan."""
    error = (results["vbmd_mg_cm3"] - results["qct_vbmd_mg_cm3"]).abs()
    half = (results["vbmd_high"] - results["vbmd_low"]) / 2
    table = results.assign(by_kind=error <= half, one_for_all=error <= results["one_width"], width=2 * half)
    return table.groupby("kind")[["by_kind", "one_for_all", "width"]].mean()


def decisions(results: pd.DataFrame) -> pd.Series:
    """Give wrong calls of each class, wrong calls at one half, and the share without a decision, in percent."""
    reduced, decided = results["reduced"], results["decision"]
    half = results["probability_reduced"] >= REDUCED_FROM
    return 100 * pd.Series(
        {
            "normal called reduced": (decided[~reduced] == "reduced").mean(),
            "reduced called normal": (decided[reduced] == "normal").mean(),
            "indeterminate": (decided == "indeterminate").mean(),
            "AUC, %": roc_auc_score(reduced, results["probability_reduced"]),
            "at 0.5: normal called reduced": half[~reduced].mean(),
            "at 0.5: reduced called normal": 1 - half[reduced].mean(),
        }
    )


def warnings(results: pd.DataFrame) -> pd.Series:
    """Give the share of the patients with each code that stops a decision, in percent."""
    codes = {code: results["novelty"].map(lambda listed, code=code: code in listed).mean() for code in BLOCKING}
    return 100 * pd.Series(codes | {"any": results["novelty"].map(bool).mean()})


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=60, help="development cohorts that are drawn")
    parser.add_argument("--patients", type=int, default=199, help="patients of each")
    options = parser.parse_args()
    often = {"n": options.patients, "repeats": options.repeats}
    pd.set_option("display.width", 200, "display.max_columns", None)
    usual = World()
    for words, networks in (("one network each", 1), ("the mean of five", FOLDS)):
        results = coverage(repeated(usual, usual, networks=networks, **often))
        print(f"\nCoverage in new patients, {words}\n{results.round(3)}")
    for words, new in _ELSEWHERE.items():
        results = coverage(repeated(usual, new, networks=FOLDS, **often))
        print(f"\nCoverage, another device: {words}\n{results.round(3)}")
    table = {}
    for blur in (30.0, 15.0, 8.0):
        world, fewer = World(blur_mg_cm3=blur), World(blur_mg_cm3=blur, reduced=0.1)
        table[f"blur {blur:g}"] = decisions(repeated(world, world, networks=1, **often))
        table[f"blur {blur:g}, reduced 1 in 11"] = decisions(repeated(world, fewer, networks=1, **often))
    biased = World(bias_mg_cm3=10.0)
    table["device 10 mg/cm3 too high"] = decisions(repeated(usual, biased, networks=1, **often))
    print(f"\nDecisions in new patients, percent\n{pd.DataFrame(table).T.round(1)}")
    rates = {"the same device": warnings(repeated(usual, usual, networks=FOLDS, **often))}
    for bias in (20.0, 40.0, 60.0):
        results = repeated(usual, World(bias_mg_cm3=bias), networks=FOLDS, **often)
        rates[f"network {bias:g} mg/cm3 too high"] = warnings(results)
    print(f"\nWarnings in new patients, percent\n{pd.DataFrame(rates).T.round(1)}")
    for n in (20, 50, 200):
        k = n + 1 - int((n + 1) / 10 + 1e-9)
        low, high = beta.ppf([0.05, 0.95], k, n + 1 - k)
        print(f"A width from {n} patients covers {100 * low:.0f} to {100 * high:.0f} % in nine of ten cohorts")


_ELSEWHERE = {
    "errors 1.5 times as large": World(times=1.5),
    "10 mg/cm3 too high": World(bias_mg_cm3=10.0),
    "20 mg/cm3 too high": World(bias_mg_cm3=20.0),
}

if __name__ == "__main__":
    main()
