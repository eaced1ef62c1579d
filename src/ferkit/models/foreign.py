"""Networks of other origin: their classes, their pixel scale, and what their outputs are.

A file that ferkit did not write says neither in which order its outputs stand nor which pixels it was trained on. Both
can be told (`classes`, `pixel_scale`, or a `card.json` beside the file); where they are not, the usual ones are taken
and said. What the outputs are, probabilities, logits or sigmoids, the network itself shows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import ModelError, UsageError
from ferkit.labels import EMOTIONS, canonical

Numbers = npt.NDArray[np.float32]

# A standard deviation beyond these makes all pixels alike, or overflows.
_LEAST_STD, _LARGEST_STD = 1e-3, 1e3


@dataclass(frozen=True)
class PixelScale:
    """How pixels 0..255 become what a network was trained on: (pixel - mean) / std.

    mean, std: in units of pixels 0..255, one number or one per channel (R, G, B).
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, given: "str | float | PixelScale") -> "PixelScale":
        """Read `0..1`, `-1..1`, `0..255`, `mean,std` or, for RGB, three means and three standard deviations.

        A standard deviation of at most 1 shows that both are meant for pixels 0..1, as PyTorch has them. A number is a
        factor, as cards of exported files have it.

        Raises:
            UsageError: something else.

        >>> PixelScale.parse("-1..1") == PixelScale.parse("127.5,127.5") == PixelScale.parse("0.5,0.5")
        True
        """
        if isinstance(given, PixelScale):
            return given
        if isinstance(given, str) and given.strip() in SCALES:
            return SCALES[given.strip()]
        try:
            numbers = [*map(float, given.split(","))] if isinstance(given, str) else [0.0, 1 / float(given)]
            half = len(numbers) // 2
            mean, std = tuple(numbers[:half]), tuple(numbers[half:])
            if isinstance(given, str) and std and max(std) <= 1:
                mean, std = tuple(255 * one for one in mean), tuple(255 * one for one in std)
            good = len(numbers) in (2, 6) and all(_LEAST_STD <= one <= _LARGEST_STD for one in std)
            good = good and all(math.isfinite(one) and abs(one) <= _LARGEST_STD for one in mean)
        except (ValueError, TypeError, ZeroDivisionError, OverflowError):
            good = False
        if not good:
            raise UsageError(
                f"pixel_scale must be {', '.join(SCALES)}, or mean,std such as 0.5,0.5 (RGB: three of each). "
                f"Received: {given}."
            )
        return cls(mean, std)

    def __str__(self) -> str:
        name = next((name for name, one in SCALES.items() if one == self), None)
        return name or ",".join(f"{one:g}" for one in (*self.mean, *self.std))

    def __call__(self, faces: npt.NDArray[np.uint8]) -> Numbers:
        """Pixels as the network takes them, float32 (N, height, width, channels)."""
        factor = np.asarray([1 / one for one in self.std], np.float32)
        pixels = faces.astype(np.float32)
        return pixels * factor if not any(self.mean) else (pixels - np.asarray(self.mean, np.float32)) * factor

    def to_card(self) -> float | str:
        """The same for a card: a factor where it is one, else `mean,std`."""
        return 1 / self.std[0] if self.mean == (0.0,) else ",".join(repr(one) for one in (*self.mean, *self.std))


AS_IT_IS = PixelScale()
SCALES = {
    "0..1": PixelScale((0.0,), (255.0,)),
    "-1..1": PixelScale((127.5,), (127.5,)),
    "0..255": AS_IT_IS,
}

# What the outputs of a network are, by the activation of its last layer.
SOFTMAX, LOGITS, SIGMOID, LOG_SOFTMAX = "softmax", "linear", "sigmoid", "log_softmax"
OUTPUTS = (SOFTMAX, LOGITS, SIGMOID, LOG_SOFTMAX)


def as_probabilities(numbers: Numbers, outputs: str) -> Numbers:
    """Probabilities, float32 (N, classes), of what a network answers; one sigmoid or logit becomes two classes."""
    if outputs == SOFTMAX:
        return numbers
    if numbers.ndim != 2:
        raise ModelError(f"A network must give (N, classes). Received: {numbers.shape}.")
    values = numbers.astype(np.float64)
    if numbers.shape[1] == 1:
        second = values if outputs == SIGMOID else 1 / (1 + np.exp(-np.clip(values, -80, 80)))
        return np.hstack([1 - second, second]).astype(np.float32)
    # Independent sigmoids are shared out: what Keras' categorical cross-entropy does to them in training.
    powers = np.maximum(values, 1e-30) if outputs == SIGMOID else np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def outputs_by_numbers(numbers: Numbers) -> str:
    """What outputs are, by the numbers that came for a few unlike faces, (N, outputs)."""
    if not np.isfinite(numbers).all():
        raise ModelError("gives NaN or infinity")
    between = numbers.min() >= 0 and numbers.max() <= 1
    if between and numbers.shape[1] > 1 and np.abs(numbers.sum(axis=1) - 1).max() < 1e-3:
        return SOFTMAX
    if between:
        return SIGMOID
    logs = numbers.max() <= 0 and np.abs(np.exp(numbers.astype(np.float64)).sum(axis=1) - 1).max() < 1e-3
    return LOG_SOFTMAX if logs else LOGITS


def unlike_faces(shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Sixteen faces of noise and of one gray, which make a network show the range of its outputs."""
    faces = np.random.default_rng(0).integers(0, 256, (16, *shape), dtype=np.uint8)
    faces[8:] = np.linspace(0, 255, 8).astype(np.uint8)[:, None, None, None]
    return faces


def parse_classes(given: str | Sequence[str]) -> tuple[str, ...]:
    """Names of classes in the order of the outputs, from `a,b,c` or a sequence.

    Raises:
        UsageError: fewer than two, a blank one, or one that comes twice.
    """
    names = tuple(name.strip() for name in (given.split(",") if isinstance(given, str) else given))
    if len(names) < 2 or not all(names) or len({canonical(name) for name in names}) != len(names):
        raise UsageError(
            "classes must be at least two different names in the order of the outputs, as in angry,happy,neutral. "
            f"Received: {','.join(names)}."
        )
    return names


class Contradiction(UsageError):  # noqa: N818 - what it is
    """Classes or a pixel scale that are told of a model which says them itself."""


@dataclass(frozen=True)
class Told:
    """What a user says about a file: its classes and its pixel scale, or None where nothing is said."""

    classes: tuple[str, ...] | None = None
    scale: PixelScale | None = None

    @classmethod
    def parse(cls, classes: str | Sequence[str] | None, pixel_scale: "str | float | PixelScale | None") -> "Told":
        return cls(
            None if classes is None else parse_classes(classes),
            None if pixel_scale is None else PixelScale.parse(pixel_scale),
        )

    def check(self, name: str, card: Mapping[str, Any]) -> None:
        """Raise `Contradiction` where a card says something else."""
        if self.classes is not None and [*map(canonical, self.classes)] != [*map(canonical, card["classes"])]:
            raise Contradiction(
                f"The card of {name} has the classes {','.join(card['classes'])}. Leave --classes out. "
                f"Received: {','.join(self.classes)}."
            )
        if self.scale is not None and self.scale != PixelScale.parse(card.get("pixel_scale", 1.0)):
            raise Contradiction(
                f"{name} has a card, and takes pixels {PixelScale.parse(card.get('pixel_scale', 1.0))} as that says. "
                f"Leave --pixel-scale out. Received: {self.scale}."
            )


def assumed(name: str, outputs: int | None, told: Told, usual: PixelScale) -> tuple[tuple[str, ...], PixelScale, str]:
    """The classes and the pixel scale to take a file by, and the sentence that says what was assumed ("" if nothing).

    Args:
        name: of the file.
        outputs: number of its outputs.
        told: what is known about it.
        usual: the scale that a network like this usually has.

    Raises:
        ModelError: another number of outputs than FER-2013 has classes, and no names told.
        UsageError: another number of names than outputs.
    """
    # One sigmoid tells two classes apart.
    expected = 2 if outputs == 1 else outputs
    if told.classes is None and expected != len(EMOTIONS):
        raise ModelError(
            f"{name} has {outputs or 'an unknown number of'} outputs and names no classes. Name them in the order of "
            "the outputs: --classes A,B,... (in Python classes=), or make a model folder of it: "
            f"ferkit export {name} DIR --format folder --classes A,B,..."
        )
    if told.classes is not None and expected not in (None, len(told.classes)):
        raise UsageError(
            f"{name} has {outputs} outputs, which are {expected} classes. Received {len(told.classes)}: "
            f"{','.join(told.classes)}."
        )
    classes, scale = told.classes or EMOTIONS, told.scale or usual
    lacking, taken, options = [], [], []
    if told.classes is None:
        lacking.append("class names")
        taken.append(f"classes in FER-2013's order ({','.join(EMOTIONS)})")
        options.append("--classes A,B,...")
    if told.scale is None:
        lacking.append("pixel scale")
        taken.append(f"pixels {scale}{' (scaled inside)' if scale == AS_IT_IS else ''}")
        options.append(f"--pixel-scale {' or '.join(one for one in (*SCALES, 'mean,std') if one != str(scale))}")
    note = f"Note: {name} carries no {' and no '.join(lacking)}. Assumed: {', '.join(taken)}. "
    return classes, scale, note + f"If it was trained otherwise: {' '.join(options)}." if lacking else ""
