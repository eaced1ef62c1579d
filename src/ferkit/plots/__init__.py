"""Plots: training curves, confusion, reliability, coverage, probabilities, galleries of faces."""

from ferkit.plots.figures import (
    confusion_matrix,
    coverage_curve,
    probability_bars,
    reliability_diagram,
    training_curves,
    training_speed,
)
from ferkit.plots.style import DARK, LIGHT, Theme

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "confusion_matrix",
    "coverage_curve",
    "probability_bars",
    "reliability_diagram",
    "training_curves",
    "training_speed",
]
