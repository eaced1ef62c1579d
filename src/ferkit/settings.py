"""Values of a `TrainConfig` as words of a command line: `mixup=0.2`, `augmentation.erase=0.25`, and back."""

import dataclasses
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from ferkit.augmentation import Augmentation
from ferkit.errors import UsageError
from ferkit.recipes import TrainConfig

# Values with an option of their own; all others go through --set.
OPTIONS = (
    *("model", "epochs", "batch_size", "optimizer", "learning_rate", "schedule", "activation", "precision", "patience"),
    *("seed", "init", "weights", "head_epochs", "thaw", "thaw_rate", "teachers"),
)
_PART = "augmentation."


def changes_of(settings: list[str], augmentation: Augmentation) -> dict[str, Any]:
    """Changes for `TrainConfig.changed` from words `name=value`, those of the augmentation `augmentation.name=value`.

    augmentation: the one whose other values stay. Raises `UsageError` for an unknown name or a value that does not fit.
    """
    changes: dict[str, Any] = {}
    varied: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"A setting is NAME=VALUE, as in mixup=0.2. Received: {setting!r}.")
        if name.startswith(_PART):
            varied[name.removeprefix(_PART)] = _value(Augmentation, name, name.removeprefix(_PART), text)
        else:
            changes[name] = _value(TrainConfig, name, name, text)
    if varied:
        changes["augmentation"] = dataclasses.replace(augmentation, **varied)
    return changes


def as_options(config: TrainConfig, usual: TrainConfig) -> list[str]:
    """The options of `ferkit train` that turn one config into another, e.g. ["--epochs", "100", "--set", "mixup=0.0"]."""
    words: list[str] = []
    for field in dataclasses.fields(TrainConfig):
        value, before = getattr(config, field.name), getattr(usual, field.name)
        if value == before:
            continue
        if field.name == "augmentation":
            for name, number in dataclasses.asdict(value).items():
                if number != getattr(before, name):
                    words += ["--set", f"{_PART}{name}={_text(number)}"]
        elif field.name == "teachers" and value:
            for teacher in value:
                words += ["--teacher", teacher]
        elif field.name in OPTIONS and value is not None:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
        else:
            words += ["--set", f"{field.name}={_text(value)}"]
    return words


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(owner: type, name: str, field: str, text: str) -> Any:
    hints = {key: kind for key, kind in get_type_hints(owner).items() if key != "augmentation"}
    if field not in hints:
        known = [*(n for n in get_type_hints(TrainConfig) if n != "augmentation")]
        known += [_PART + n for n in get_type_hints(Augmentation)]
        raise UsageError(f"Unknown setting {name!r}. Choices: {', '.join(known)}.")
    kinds = get_args(hints[field]) if get_origin(hints[field]) in (Union, types.UnionType) else (hints[field],)
    kind = next(one for one in kinds if one is not type(None))
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise UsageError(f"{name} must be {wanted}. Received: {text!r}.") from None
    return tuple(part for part in text.split(",") if part)
