"""The emotion vocabulary: the one place that knows names, order and aliases.

The order is that of FER-2013 (Goodfellow et al. 2013, "Challenges in representation learning"), where label 0 is
angry and 6 is neutral.
"""

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
