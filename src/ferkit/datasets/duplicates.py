"""Exact duplicates: faces whose pixels are identical, inside a split and across splits, and what their labels say.

FER-2013 was gathered by searching the web, so the same picture came in more than once, now and then under two labels.
A held-out face that also stands in training makes a score better than it is.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ferkit.datasets.records import Findings

Prints = npt.NDArray[np.uint64]


def repeats(prints: Prints) -> npt.NDArray[np.bool_]:
    """True where the same print stands earlier, bool (N,)."""
    seen_before = np.ones(len(prints), bool)
    seen_before[np.unique(prints, return_index=True)[1]] = False
    return seen_before


def find_duplicates(
    prints: Sequence[Prints], labels: Sequence[npt.NDArray[np.int64]], names: Sequence[str], classes: Sequence[str]
) -> Findings:
    """Compare all faces of all splits, given in the splits' order."""
    across = {
        (names[a], names[b]): int(np.isin(prints[b], prints[a]).sum()) for b in range(len(names)) for a in range(b)
    }
    return Findings(
        within={name: int(repeats(one).sum()) for name, one in zip(names, prints, strict=True)},
        across={pair: count for pair, count in across.items() if count},
        redundant=int(repeats(np.concatenate(prints)).sum()),
        conflicts=_conflicts(prints, labels, names, classes),
    )


def _conflicts(
    prints: Sequence[Prints], labels: Sequence[npt.NDArray[np.int64]], names: Sequence[str], classes: Sequence[str]
) -> list[list[tuple[str, str]]]:
    joined, label = np.concatenate(prints), np.concatenate(labels)
    split = np.repeat(np.arange(len(prints)), [len(one) for one in prints])
    repeated = np.isin(joined, joined[repeats(joined)])
    groups: dict[int, list[tuple[int, int]]] = {}
    for key, where, which in zip(joined[repeated], split[repeated], label[repeated], strict=True):
        groups.setdefault(int(key), []).append((int(where), int(which)))
    return [
        [(names[where], classes[which]) for where, which in group]
        for group in groups.values()
        if len({which for _, which in group}) > 1
    ]
