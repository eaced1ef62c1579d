"""A value of a recipe, declared once: its default, what it means, what it can be, how it is searched.

Checks, options of the command line, `--set`, the tables of the reference and the search of `ferkit tune` all read the
declaration, which is the metadata of a dataclass field.
"""

import dataclasses
import functools
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from ferkit._support.registry import unknown
from ferkit.errors import UsageError


@dataclass(frozen=True)
class Between:
    """A number from low to high; `log`: each power of ten counts the same."""

    low: float
    high: float
    log: bool = False

    def ask(self, trial: Any, name: str) -> float:
        # Three digits: what is printed is exactly what was tried.
        return float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.3g}")

    def nearest(self, value: Any) -> float:
        return min(max(float(value), self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", by powers of ten" if self.log else "")


@dataclass(frozen=True)
class OneOf:
    """One of some values."""

    choices: tuple[Any, ...]

    def ask(self, trial: Any, name: str) -> Any:
        return trial.suggest_categorical(name, self.choices)

    def nearest(self, value: Any) -> Any:
        return value if value in self.choices else min(self.choices, key=lambda choice: abs(choice - value))

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices))


@dataclass(frozen=True)
class ByOptimizer:
    """A range for each optimizer: a good rate of one is hopeless for another."""

    ranges: Mapping[str, Between]

    def __str__(self) -> str:
        return "; ".join(f"{optimizer}: {one}" for optimizer, one in self.ranges.items())


Space = Between | OneOf | ByOptimizer


@dataclass(frozen=True, kw_only=True)
class Value:
    """What is declared of a value.

    Args:
        help: What it is, in sentences.
        choices: What it can be, where that is one of some words.
        least, above, most, below: The range of a number.
        option: Whether it has an option of its own on the command line, or that option's names; `--set` takes every
            value.
        search: Where `ferkit tune` may look for it.
    """

    help: str
    choices: Collection[str] | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    option: bool | tuple[str, ...] = False
    search: Space | None = None

    @property
    def range(self) -> str:
        """The range in words, as behind "must be"; empty where anything goes."""
        if self.least == 0 and self.most is not None:
            return f"from 0 to {_number(self.most)}"
        ends = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        return " and ".join(f"{words} {_number(end)}" for words, end in ends if end is not None)

    def holds(self, number: float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )


def _number(end: float) -> str:
    return f"{end:g}" if isinstance(end, float) else str(end)


def value(default: Any, help: str, **facts: Any) -> Any:
    """A dataclass field with a declaration; facts are those of `Value`."""
    return dataclasses.field(default=default, metadata={"value": Value(help=help, **facts)})


@dataclass(frozen=True)
class Declared:
    """A value with its declaration and its type.

    Args:
        name: As `--set` has it, `augmentation.zoom` for one of a part.
        kind: bool, int, float, str or tuple.
        optional: Whether it may be None.
    """

    name: str
    value: Value
    kind: type
    optional: bool

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its option on the command line, the usual one first; () where it has none of its own."""
        if isinstance(self.value.option, tuple):
            return self.value.option
        return (f"--{self.name.replace('_', '-')}",) if self.value.option else ()

    @property
    def range(self) -> str:
        """What it can be, in words."""
        words = (
            ", ".join(self.value.choices or ()) or self.value.range or ("true, false" if self.kind is bool else "any")
        )
        return f"{words}, or none" if self.optional else words

    def settle(self, given: Any) -> Any:
        """The value in the form that `config.json` gives it back in; `UsageError` for one that it cannot be."""
        name = self.name.rpartition(".")[2]
        if self.optional and given in (None, "none"):
            return None
        if not _is(self.kind, given):
            raise UsageError(f"{name} must be {_KINDS[self.kind]}. Received: {given!r}.")
        given = (
            tuple(map(os.fspath, given))
            if self.kind is tuple
            else os.fspath(given)
            if self.kind is str
            else self.kind(given)
        )
        if self.value.choices is not None and given not in self.value.choices:
            raise unknown(name, given, list(self.value.choices))
        if self.kind in (int, float) and not self.value.holds(given):
            raise UsageError(f"{name} must be {self.value.range}. Received: {given}.")
        return given

    def parse(self, text: str) -> Any:
        """The value that words of a command line mean; `none` where it may be None."""
        if self.optional and text.lower() == "none":
            return None
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            if self.kind in (int, float):
                return self.kind(text)
        except (ValueError, KeyError):
            raise UsageError(f"{self.name} must be {_KINDS[self.kind]}. Received: {text!r}.") from None
        return tuple(part for part in text.split(",") if part) if self.kind is tuple else text


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", tuple: "several models"}


def _is(kind: type, given: Any) -> bool:
    if kind is bool:
        return isinstance(given, bool)
    if kind in (int, float):
        return isinstance(given, Integral if kind is int else Real) and not isinstance(given, bool)
    return isinstance(given, (str, os.PathLike)) if kind is str else isinstance(given, (tuple, list))


@functools.cache
def declared(owner: type) -> Mapping[str, Declared]:
    """The values that a config declares by their names, those of its parts as `part.name`, in order."""
    return {one.name: one for one in _walk(owner, "")}


def _walk(owner: type, part: str) -> Iterator[Declared]:
    hints = get_type_hints(owner)
    for field in dataclasses.fields(owner):
        kind = hints[field.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _walk(kind, f"{field.name}.")
            continue
        kinds = get_args(kind) if get_origin(kind) not in (None, tuple) else (get_origin(kind) or kind,)
        (plain,) = (one for one in kinds if one is not NoneType)
        yield Declared(part + field.name, field.metadata["value"], plain, NoneType in kinds)


def settle(config: Any) -> None:
    """Check every value of a frozen config and bring it into one form, as the last step of making it."""
    owner: type = type(config)
    for name, one in declared(owner).items():
        if "." not in name:
            object.__setattr__(config, name, one.settle(getattr(config, name)))


def get(config: Any, name: str) -> Any:
    """A value of a config by the name that `declared` has."""
    return functools.reduce(getattr, name.split("."), config)
