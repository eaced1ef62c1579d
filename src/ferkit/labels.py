"""The emotion vocabulary: the one place that knows names, order and aliases.

The order is that of FER-2013 (Goodfellow et al. 2013, "Challenges in representation learning"), where label 0 is
angry and 6 is neutral.

One colour per emotion, the same in every plot and on every annotated picture.

The seven are the colour-blind-safe set of Okabe and Ito (2008), "Color Universal Design", without its yellow, which
cannot be read on white; neutral is the gray that stays furthest from the others for the colour-blind and can be seen
on dark paper.
"""

import colorsys
import threading
import zlib
from collections.abc import Sequence
from itertools import count

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# FER+ and others know an eighth, which comes last.
WITH_CONTEMPT: tuple[str, ...] = (*EMOTIONS, "contempt")

_ALIASES = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "calm": "neutral",
    "none": "neutral",
}


def canonical(name: str) -> str:
    """Return the FER-2013 name of an emotion, or the name itself, lower case, when it is not one of the seven.

    >>> canonical("Happiness")
    'happy'
    >>> canonical("contempt")
    'contempt'
    """
    name = name.strip().lower()
    return _ALIASES.get(name, name)


def order_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Put class names in the order a model uses: FER-2013's and then contempt if all are emotions, else sorted.

    >>> order_classes(["contempt", "neutral", "Anger"])
    ('angry', 'neutral', 'contempt')
    >>> order_classes(["dog", "cat"])
    ('cat', 'dog')
    """
    found = {canonical(name) for name in names}
    if found <= set(WITH_CONTEMPT):
        return tuple(name for name in WITH_CONTEMPT if name in found)
    return tuple(sorted(found))


EMOTION_COLORS: dict[str, str] = {
    "angry": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happy": "#E69F00",
    "sad": "#0072B2",
    "surprise": "#56B4E9",
    "neutral": "#666666",
}

# For classes of one's own data: Paul Tol's "muted" scheme, colour-blind-safe as well.
_OTHERS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499")


def color_of(label: str) -> str:
    """Colour of a class as `#RRGGBB`: an emotion's own, else one that no other class of this process has.

    >>> color_of("happy")
    '#E69F00'
    >>> color_of("bored") == color_of("bored") != color_of("curious")
    True
    """
    known = EMOTION_COLORS.get(label) or _given.get(label)
    if known is None:
        with _giving:
            known = _given.setdefault(label, _free_color(label))
    return known


# The colours of classes that are no emotions, in the order in which they were first drawn.
_given: dict[str, str] = {}
_giving = threading.Lock()


def _free_color(label: str) -> str:
    """The class's own of the nine by its name, else the next one that is free, else a new hue."""
    taken = {*_given.values(), *EMOTION_COLORS.values()}
    # Not hash(): that differs from one run of Python to the next.
    first = zlib.crc32(label.encode("utf-8", "replace")) % len(_OTHERS)
    for color in (*_OTHERS[first:], *_OTHERS[:first]):
        if color not in taken:
            return color
    # Steps of the golden ratio never come back to a hue; three depths keep neighbours apart.
    for number in count(len(_given)):
        rgb = colorsys.hls_to_rgb(number * 0.618034 % 1, (0.34, 0.48, 0.6)[number % 3], 0.55)
        color = "#" + "".join(f"{round(255 * part):02X}" for part in rgb)
        if color not in taken:
            return color
    raise AssertionError("unreachable: count() has no end")
