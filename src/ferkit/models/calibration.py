"""What is done to a network's probabilities: a temperature, and a sensitivity before it.

Calibration: one temperature makes a network's confidence match its accuracy (Guo et al. 2017).

Sensitivity: how readily a model names rare expressions, by logit adjustment (Menon et al. 2021). A network that learnt
from faces as they are says "neutral" when in doubt, because most faces are. Dividing its probabilities by
`prior ** sensitivity`, where the prior is the share of each class among the faces it learnt from, takes that habit away:
0 leaves the classes as common as they are in life, 1 counts every class alike. No training is needed, and the order of
answers within a class stays. A temperature is fitted after it, since the adjustment makes answers less sure than right
or surer.
"""

import math
from numbers import Real

import numpy as np
import numpy.typing as npt

from ferkit.errors import FerkitError, UsageError

Probabilities = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]

_TEMPERATURES = (0.05, 20.0)
# What a float32 softmax that underflowed to 0 counts as: the smallest normal float32.
SMALLEST = float(np.finfo(np.float32).tiny)


def apply_temperature(probabilities: Probabilities, temperature: float) -> npt.NDArray[np.float32]:
    """Soften (temperature > 1) or sharpen (< 1) probabilities: softmax(log p / temperature), float32 (N, K).

    The order of the classes, so the accuracy, stays as it is. 1 changes nothing.

    Raises:
        FerkitError: The temperature is not a number above 0.

    >>> apply_temperature(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()[0]
    [0.6669999957084656, 0.3330000042915344]
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise FerkitError(f"A temperature is a number above 0. Received: {temperature}.")
    # As powers, which is the same and takes half the calls: for one face they cost as much as some networks.
    # A row's largest is at least 1 / K, so that none of them vanish in float64.
    powers = np.power(np.maximum(probabilities, SMALLEST), 1 / temperature, dtype=np.float64)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def fit_temperature(probabilities: Probabilities, labels: Labels) -> float:
    """Find the temperature that makes the labels most likely (temperature scaling, Guo et al. 2017).

    The network's logits differ from log-probabilities by a constant per face only, which softmax ignores, so
    probabilities are enough. The log loss is convex in 1 / temperature, so a golden-section search over 0.05 to 20
    finds its one minimum.

    Args:
        probabilities: Float (N, K), as the network gives them.
        labels: Int (N,), of a validation split, never of the split that is reported.

    Returns:
        A temperature for `apply_temperature`, to four digits.

    Raises:
        FerkitError: There is no face, or these are no probabilities of such labels.
    """
    check_probabilities(probabilities, labels)
    logs = _log(probabilities)
    logs -= logs.max(axis=1, keepdims=True)
    given = logs[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(logs * scale).sum(axis=1)) - given * scale))

    low, high = map(math.log, _TEMPERATURES)
    golden = (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-4:  # temperature to four digits; the loss is flat far beyond that
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)


def _log(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """Logarithms in float64."""
    return np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))


def check_probabilities(probabilities: Probabilities, labels: Labels) -> None:
    """Raise `FerkitError` unless these are probabilities of labelled faces that can be scored."""
    n = len(labels)
    if n == 0:
        raise FerkitError("Figures need at least one face. Received: none.")
    if probabilities.ndim != 2 or len(probabilities) != n:
        raise FerkitError(f"{n} labels need probabilities of shape ({n}, classes). Received: {probabilities.shape}.")
    if not 0 <= int(labels.min()) <= int(labels.max()) < probabilities.shape[1]:
        raise FerkitError(f"labels must be 0 to {probabilities.shape[1] - 1}. Received: {np.unique(labels)}.")
    if not np.isfinite(probabilities).all():
        raise FerkitError("Probabilities must be numbers. Received: NaN or infinity, as from a diverged model.")


def adjust(probabilities: Probabilities, prior: npt.ArrayLike, sensitivity: float) -> npt.NDArray[np.float32]:
    """Probabilities divided by `prior ** sensitivity`, rows sum to 1, float32 (N, K).

    prior: (K,), share of each class, all above 0; its scale does not matter. sensitivity: below 0 it takes an
        adjustment back.

    >>> adjust(np.array([[0.6, 0.4]]), (0.75, 0.25), 1.0).round(3).tolist()
    [[0.3330000042915344, 0.6669999957084656]]
    """
    shares = check_prior(prior, probabilities.shape[1])
    powers = np.maximum(probabilities, SMALLEST) / (shares / shares.max()) ** sensitivity
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
