"""Named choices: a dict with a decorator and a helpful error; and how lists show them, with their speed here.

Models, detectors, readers, recipes, schedules and sinks register themselves; the command line, the docs and the
contract tests read the registries, so a list of options is never typed twice.
"""

import difflib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ferkit.errors import UsageError

T = TypeVar("T")
_SECONDS = 0.3  # enough for the runs of one figure


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping of name to choice, filled by the decorator `register`.

    >>> shapes = Registry("shape")
    >>> @shapes.register("square")
    ... def square(): ...
    >>> list(shapes)
    ['square']
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._choices: dict[str, T] = {}

    @classmethod
    def of(cls, kind: str, choices: Mapping[str, T]) -> "Registry[T]":
        """A registry that is filled already."""
        registry = cls(kind)
        registry._choices.update(choices)
        return registry

    def register(self, name: str) -> Callable[[T], T]:
        def keep(choice: T) -> T:
            if name in self._choices:
                raise UsageError(f"The {self.kind} {name!r} is registered already.")
            self._choices[name] = choice
            return choice

        return keep

    def __getitem__(self, name: str) -> T:
        if name in self._choices:
            return self._choices[name]
        raise unknown(self.kind, name, list(self))

    def __contains__(self, name: object) -> bool:
        return name in self._choices

    def __iter__(self) -> Iterator[str]:
        # What is taken by default stands first, what leaves a step out last, whichever file was loaded first.
        return iter(sorted(self._choices, key=lambda name: (name == "none") - (name == "auto")))

    def __len__(self) -> int:
        return len(self._choices)


@dataclass(frozen=True)
class Listed:
    """A choice in a list. about: what it is. facts: further lines for people. data: more entries of its JSON object.

    problem: why it cannot be used here, if so.
    """

    name: str
    about: str
    facts: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **self.data, "about": self.about}


def unknown(kind: str, name: str, choices: Sequence[str]) -> UsageError:
    """The error for a name that is none of the choices, with the nearest one; never "none", which leaves a step out."""
    near = difflib.get_close_matches(name, [choice for choice in choices if choice != "none"], n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return UsageError(f"Unknown {kind} {name!r}. {hint}Choices: {', '.join(choices)}.")


def describe(choice: object) -> str:
    """First line of a choice's docstring: what lists of choices show."""
    return (choice.__doc__ or "").strip().split("\n")[0]


def median_seconds(work: Callable[[], object], runs: int) -> float:
    """The median time of at most so many runs after a warm-up. `benchmarks/` has the published figures."""
    work()
    taken: list[float] = []
    while len(taken) < runs and sum(taken) < _SECONDS:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def milliseconds(seconds: float) -> str:
    """A short time for people.

    >>> milliseconds(0.0123), milliseconds(0.00001)
    ('12.3 ms', 'under 0.1 ms')
    """
    return "under 0.1 ms" if seconds < 1e-4 else f"{1e3 * seconds:.1f} ms"


def qualified_name(value: object) -> str:
    """What a function or class of a user is called, or the class of an object.

    >>> qualified_name(len), qualified_name(Registry("detector"))
    ('builtins.len', 'ferkit._support.registry.Registry')
    """
    kind = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
