"""Clinical variables of synthetic patients.

Eighteen interview and ten blood variables, with units and ranges of adults examined for
enlarged lymph nodes. Three blood variables decide the class of patients with ambiguous slides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERVIEW = "interview"
BLOOD = "blood"


@dataclass(frozen=True)
class Variable:
    """Clinical variable with its distribution.

    Attributes
    ----------
    name, group, unit
        Column name, group and unit.
    center, spread
        Median and standard deviation; if `skewed`, standard deviation of the logarithm.
    low, high
        Limits; values outside are clipped.
    decimals
        Number of decimals.
    skewed
        Whether the distribution is log-normal, else normal.
    """

    name: str
    group: str
    unit: str
    center: float
    spread: float
    low: float
    high: float
    decimals: int = 0
    skewed: bool = False

    def value(self, score: float) -> float:
        """Return the rounded value `score` deviations above the median."""
        raw = (
            self.center * np.exp(self.spread * score)
            if self.skewed
            else self.center + self.spread * score
        )
        return round(float(np.clip(raw, self.low, self.high)), self.decimals)

    def score(self, value: float) -> float:
        """Return the deviations of a value above the median."""
        if self.skewed:
            return float(np.log(value / self.center) / self.spread)
        return (value - self.center) / self.spread


VARIABLES = (
    Variable("age", INTERVIEW, "years", 62, 13, 18, 95),
    Variable("male", INTERVIEW, "0/1", 0.5, 0.5, 0, 1),
    Variable("height", INTERVIEW, "cm", 169, 9, 140, 205),
    Variable("weight", INTERVIEW, "kg", 72, 14, 38, 160),
    Variable("weight_loss", INTERVIEW, "%", 3, 0.9, 0, 35, 1, True),
    Variable("smoking", INTERVIEW, "pack-years", 6, 1.2, 0, 120, 0, True),
    Variable("alcohol", INTERVIEW, "g/week", 30, 1.1, 0, 700, 0, True),
    Variable("education", INTERVIEW, "years", 13, 3, 4, 24),
    Variable("fever", INTERVIEW, "0/1", 0.2, 0.5, 0, 1),
    Variable("night_sweats", INTERVIEW, "0/1", 0.25, 0.5, 0, 1),
    Variable("fatigue", INTERVIEW, "0-10", 4, 2.4, 0, 10),
    Variable("pain", INTERVIEW, "0-10", 2.5, 2.2, 0, 10),
    Variable("ecog", INTERVIEW, "0-4", 0.8, 0.9, 0, 4),
    Variable("comorbidities", INTERVIEW, "count", 1.6, 1.4, 0, 9),
    Variable("family_history", INTERVIEW, "0/1", 0.1, 0.45, 0, 1),
    Variable("symptom_duration", INTERVIEW, "weeks", 9, 0.8, 1, 150, 0, True),
    Variable("systolic_pressure", INTERVIEW, "mmHg", 131, 16, 85, 210),
    Variable("heart_rate", INTERVIEW, "1/min", 76, 11, 45, 140),
    Variable("ldh", BLOOD, "U/L", 240, 0.42, 90, 3000, 0, True),
    Variable("beta2_microglobulin", BLOOD, "mg/L", 2.6, 0.40, 0.8, 20, 2, True),
    Variable("crp", BLOOD, "mg/L", 9, 1.0, 0.3, 350, 1, True),
    Variable("hemoglobin", BLOOD, "g/L", 129, 17, 65, 185),
    Variable("leukocytes", BLOOD, "10^9/L", 7.2, 0.35, 1, 60, 1, True),
    Variable("lymphocytes", BLOOD, "10^9/L", 1.7, 0.45, 0.2, 30, 2, True),
    Variable("platelets", BLOOD, "10^9/L", 245, 0.30, 20, 900, 0, True),
    Variable("albumin", BLOOD, "g/L", 39, 5, 18, 54),
    Variable("calcium", BLOOD, "mmol/L", 2.34, 0.13, 1.7, 3.6, 2),
    Variable("creatinine", BLOOD, "umol/L", 80, 0.25, 35, 600, 0, True),
)

GROUPS = (INTERVIEW, BLOOD)

#: Weights of the three deciding blood variables, per deviation from their medians.
DECIDING = {"ldh": 1.2, "beta2_microglobulin": 0.8, "albumin": -0.8}


def draw_record(rng: np.random.Generator) -> dict[str, float]:
    """Draw independent values of all variables for one patient."""
    return {variable.name: variable.value(rng.standard_normal()) for variable in VARIABLES}


def leaning(record: Mapping[str, float]) -> float:
    """Return a record's score for lesion A against B.

    Positive scores (such as high LDH) indicate lesion A, others lesion B.
    """
    by_name = {variable.name: variable for variable in VARIABLES}
    return sum(w * by_name[name].score(record[name]) for name, w in DECIDING.items())
