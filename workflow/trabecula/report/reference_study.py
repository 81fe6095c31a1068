"""Published figures of the reference study, whose protocol the models follow; they come from its abstract.

"Study on Opportunistic CT for Osteoporosis Screening and Bone Density Prediction Based on Deep
Neural Network", 2024, record ylsbxx202402010 (https://search.napstic.cn/literature/periodical/010ylsbxx202402010).
"""

from collections.abc import Mapping
from dataclasses import dataclass

CITATION = (
    "“Study on Opportunistic CT for Osteoporosis Screening and Bone Density Prediction Based on Deep Neural Network”, "
    "2024, record ylsbxx202402010: 199 patients for training and testing (five-fold cross-validation and random "
    "grouping), 42 from other devices as an independent test set"
)


@dataclass(frozen=True)
class Published:
    """A published row: the name of the set, its number of patients, and the figures as printed."""

    name: str
    n: str
    figures: Mapping[str, str]


ROWS = (
    Published("Training", "199 with testing", {"mae": "1.42", "rmse": "1.93"}),
    Published(
        "Testing",
        "199 with training",
        {"auc": "0.974", "mae": "8.52", "rmse": "10.80"}
        | dict.fromkeys(("f1", "recall", "precision", "specificity", "accuracy"), "≥ 0.91"),
    ),
    Published(
        "Independent",
        "42",
        {"auc": "0.938", "mae": "13.89", "rmse": "20.36"}
        | dict.fromkeys(("f1", "recall", "precision", "specificity", "accuracy"), "> 0.862"),
    ),
)
