"""Thresholds of vBMD below which bone counts as reduced and as osteoporotic."""

from dataclasses import dataclass
from typing import Literal

Grade = Literal["normal", "low", "osteoporosis"]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of vBMD in mg/cm3 HA, by default those of the ACR and of the Chinese consensus of 2019.

    >>> [Thresholds().grade(vbmd) for vbmd in (79.9, 80, 119.9, 120)]
    ['osteoporosis', 'low', 'low', 'normal']
    """

    reduced_below_mg_cm3: float = 120.0
    osteoporosis_below_mg_cm3: float = 80.0

    def grade(self, vbmd_mg_cm3: float) -> Grade:
        """Grade one value of vBMD."""
        if vbmd_mg_cm3 < self.osteoporosis_below_mg_cm3:
            return "osteoporosis"
        return "low" if vbmd_mg_cm3 < self.reduced_below_mg_cm3 else "normal"
