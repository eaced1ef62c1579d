"""Sensitivity: how readily a model names rare expressions, by logit adjustment (Menon et al. 2021).

A network that learnt from faces as they are says "neutral" when in doubt, because most faces are. Dividing its
probabilities by `prior ** sensitivity`, where the prior is the share of each class among the faces it learnt from,
takes that habit away: 0 leaves the classes as common as they are in life, 1 counts every class alike. No training is
needed, and the order of answers within a class stays. A temperature is fitted after it, since the adjustment makes
answers less sure than right or surer.
"""

from numbers import Real

import numpy as np
import numpy.typing as npt

from ferkit.errors import UsageError
from ferkit.models.calibration import Probabilities

# What a probability of 0 counts as, as for temperatures.
_SMALLEST = np.finfo(np.float32).tiny


def adjust(probabilities: Probabilities, prior: npt.ArrayLike, sensitivity: float) -> npt.NDArray[np.float32]:
    """Probabilities divided by `prior ** sensitivity`, rows sum to 1, float32 (N, K).

    prior: (K,), share of each class, all above 0; its scale does not matter. sensitivity: below 0 it takes an
        adjustment back.

    >>> adjust(np.array([[0.6, 0.4]]), (0.75, 0.25), 1.0).round(3).tolist()
    [[0.3330000042915344, 0.6669999957084656]]
    """
    shares = check_prior(prior, probabilities.shape[1])
    powers = np.maximum(probabilities, _SMALLEST) / (shares / shares.max()) ** sensitivity
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def offsets(prior: npt.ArrayLike, sensitivity: float) -> list[float]:
    """What `adjust` takes from the log-probabilities, (K,): for graphs that hold the adjustment themselves."""
    shares = np.asarray(prior, np.float64)
    return [float(one) for one in sensitivity * np.log(shares / shares.max())]


def check_sensitivity(sensitivity: float) -> float:
    """A sensitivity as it came, if it is one. Raises `UsageError`."""
    if isinstance(sensitivity, bool) or not isinstance(sensitivity, Real) or not 0 <= sensitivity <= 1:
        raise UsageError(f"A sensitivity is a number from 0 to 1. Received: {sensitivity!r}.")
    return float(sensitivity)


def check_prior(prior: npt.ArrayLike, classes: int) -> npt.NDArray[np.float64]:
    """A prior as an array, if it fits so many classes. Raises `UsageError`."""
    try:
        shares = np.asarray(prior, np.float64)
    except (TypeError, ValueError):
        shares = np.empty(0)
    if shares.shape != (classes,) or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise UsageError(f"A prior is {classes} shares above 0, one for each class. Received: {prior!r}.")
    return shares
