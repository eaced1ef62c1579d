"""One colour per emotion, the same in every plot and on every annotated picture.

The seven are the colour-blind-safe set of Okabe and Ito (2008), "Color Universal Design", without its yellow, which
cannot be read on white; neutral is gray.
"""

import zlib

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
