"""The emotion vocabulary: the one place that knows names, order and aliases.

The order is that of FER-2013 (Goodfellow et al. 2013, "Challenges in representation learning"), where label 0 is
angry and 6 is neutral.

One colour per emotion, the same in every plot and on every annotated picture.

The seven are the colour-blind-safe set of Okabe and Ito (2008), "Color Universal Design", without its yellow, which
cannot be read on white; neutral is gray.
"""

import zlib
from collections.abc import Sequence

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

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
    """Put class names in the order a model uses: FER-2013's if all are emotions of it, else sorted.

    >>> order_classes(["neutral", "Anger"])
    ('angry', 'neutral')
    >>> order_classes(["dog", "cat"])
    ('cat', 'dog')
    """
    found = {canonical(name) for name in names}
    if found <= set(EMOTIONS):
        return tuple(name for name in EMOTIONS if name in found)
    return tuple(sorted(found))


EMOTION_COLORS: dict[str, str] = {
    "angry": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happy": "#E69F00",
    "sad": "#0072B2",
    "surprise": "#56B4E9",
    "neutral": "#888888",
}

# For classes of one's own data: Paul Tol's "muted" scheme, colour-blind-safe as well.
_OTHERS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499")


def color_of(label: str) -> str:
    """Colour of a class as `#RRGGBB`: an emotion's own, else one of nine that depends on the name alone.

    >>> color_of("happy")
    '#E69F00'
    >>> color_of("bored") == color_of("bored")
    True
    """
    # Not hash(): that differs from one run of Python to the next.
    return EMOTION_COLORS.get(label) or _OTHERS[zlib.crc32(label.encode("utf-8", "replace")) % len(_OTHERS)]
