"""How a network is trained: `TrainConfig`, and named recipes, which are nothing but filled-in configs.

Values of a `TrainConfig` as words of a command line: `mixup=0.2`, `augmentation.erase=0.25`, and back.
"""

import dataclasses
import os
import types
from dataclasses import dataclass, field
from typing import Any, Union, get_args, get_origin, get_type_hints

from ferkit._support.registry import Registry
from ferkit.errors import UsageError
from ferkit.models import ARCHITECTURES, TTA
from ferkit.training.augmentation import Augmentation
from ferkit.training.schedules import SCHEDULES

OPTIMIZERS = ("adam", "adamw", "sgd", "lion")
PRECISIONS = ("float32", "bfloat16")
_NOT_NEGATIVE = (
    *("weight_decay", "warmup_epochs", "sharpness", "focal", "class_weight", "mixup", "cutmix"),
    *("head_epochs", "seed"),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides how a run goes; stored in the run folder as `config.json`.

    model: name of an architecture.
    activation: any Keras activation (relu, leaky_relu, gelu, silu, ...).
    epochs, batch_size: the incomplete last batch of an epoch is left out.
    optimizer: adam, adamw, sgd (Nesterov, momentum 0.9), or lion (Chen et al. 2023; wants a rate 3 to 10 times lower than
        AdamW's).
    learning_rate: the peak; `schedule` says what becomes of it.
    warmup_epochs: epochs of linear rise from a hundredth of the rate at the start (cosine only).
    weight_decay: decoupled, as in AdamW (Loshchilov & Hutter 2019).
    accumulate: batches whose gradients are gathered for one step of the optimizer: a large batch in little memory.
    sharpness: how far sharpness-aware steps look (rho of Foret et al. 2021); 0 is off. Doubles the time; TensorFlow only.
    label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016).
    focal: gamma of the focal loss (Lin et al. 2017): faces that are right already count less; 0 is plain cross-entropy.
    class_weight: power of the inverse class frequency by which faces count: 0 all alike, 1 every class in sum alike.
    bootstrap: share of the target that is the network's own answer (soft bootstrapping, Reed et al. 2015), against wrong
        labels.
    denoise: share of the target that is what label faces with such FER+ votes bear on average, see `ferkit.training.targets`.
    votes_weight: share of the loss that a second head on FER+ votes gets; its labels' head learns the labels. 0 has one
        head, on the votes where the data has them, unless `denoise` is set.
    teachers: models whose mean answer to each face is part of its target (distillation, Hinton et al. 2015).
    teacher_tta: the views over which they answer, see `ferkit.models.tta`; None asks once.
    teacher_share: that part. teacher_temperature: the answer's logarithms are divided by it; above 1 it is softer.
    augmentation: how faces are varied.
    mixup, cutmix: alpha of the Beta distribution by which faces and targets are mixed, see `ferkit.training.augmentation`; 0 is off.
    mix_share: share of batches that are mixed, if `mixup` or `cutmix` is set.
    average: decay per step of the running average of the weights, see `ferkit.training.step`; the average is what is
        measured and kept. 0 keeps none; 0.999 looks back about 1,000 steps, or a tenth of a shorter run. Normalisation statistics are not averaged:
        with `recalibrate` they are those of the average.
    precision: bfloat16 computes activations and gradients in 16 bits and keeps weights in 32 (Micikevicius et al.
        2018); faster where the processor has bfloat16 (AMX, AVX512-BF16, GPU, TPU), slower elsewhere. The trained
        network is float32 either way.
    recalibrate: after each epoch the running statistics of batch normalisation are taken anew from clean faces, see
        `ferkit.models.layers`.
    patience: epochs without a better validation accuracy after which training stops; None never stops early.
    init: a model to start from; layers with the same name and shapes take its weights, the head only from the same classes.
    weights: of a `keras.applications` network: none, imagenet, or a file, see `ferkit.models.pretrained`.
    head_epochs: epochs at the start in which only the last layer learns, at `learning_rate`; 0 trains everything at once.
    thaw: layers of the base, from its top, that learn after that; None is all. thaw_rate: their peak rate after
        `head_epochs`; None takes a tenth of `learning_rate`.
    seed: of weights, order, augmentation and dropout.
    """

    model: str = "tutorial"
    activation: str = "relu"
    epochs: int = 50
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    accumulate: int = 1
    sharpness: float = 0.0
    label_smoothing: float = 0.0
    focal: float = 0.0
    class_weight: float = 0.0
    bootstrap: float = 0.0
    denoise: float = 0.0
    votes_weight: float = 0.0
    teachers: tuple[str, ...] = ()
    teacher_tta: str | None = "flip"
    teacher_share: float = 0.5
    teacher_temperature: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_share: float = 1.0
    average: float = 0.0
    precision: str = "float32"
    recalibrate: bool = False
    patience: int | None = None
    init: str | None = None
    weights: str = "none"
    head_epochs: int = 0
    thaw: int | None = None
    thaw_rate: float | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        self._settle()
        ARCHITECTURES[self.model]
        SCHEDULES[self.schedule]
        if self.teacher_tta is not None:
            TTA[self.teacher_tta]
        for kind, value, choices in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in choices:
                raise UsageError(f"Unknown {kind} {value!r}. Choices: {', '.join(choices)}.")
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("patience", 1), ("thaw", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}. Received: {value}.")
        for name in ("learning_rate", "thaw_rate", "teacher_temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be above 0. Received: {value}.")
        for name in ("label_smoothing", "average", "bootstrap", "votes_weight"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UsageError(f"{name} must be at least 0 and below 1. Received: {value}.")
        for name in ("mix_share", "teacher_share", "denoise"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name} must be from 0 to 1. Received: {value}.")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if not value >= 0:
                raise UsageError(f"{name} must not be negative. Received: {value}.")
        if self.seed >= 2**32:
            raise UsageError(f"seed must be below 2**32. Received: {self.seed}.")
        if self.head_epochs >= self.epochs:
            raise UsageError(
                f"head_epochs must be below epochs, or the rest never learns. Received: {self.head_epochs} of {self.epochs}."
            )
        if self.thaw_rate is not None and not self.head_epochs:
            raise UsageError(
                "thaw_rate is the rate after the head's epochs, and head_epochs is 0. Set head_epochs, or learning_rate alone."
            )
        if self.sharpness and self.accumulate > 1:
            raise UsageError("sharpness and accumulate do not go together. Leave one of them out.")

    def _settle(self) -> None:
        """Bring values into the form that `config.json` gives them back in, so that a run can be gone on with."""
        if isinstance(self.teachers, str):
            raise UsageError(
                f"teachers must be several models, as in ({self.teachers!r},). Received: {self.teachers!r}."
            )
        object.__setattr__(self, "teachers", tuple(os.fspath(one) for one in self.teachers))
        object.__setattr__(self, "learning_rate", float(self.learning_rate))  # Keras takes no whole number
        object.__setattr__(self, "thaw_rate", None if self.thaw_rate is None else float(self.thaw_rate))
        for name in ("init", "weights"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else os.fspath(value))
        if str(self.teacher_tta).lower() == "none":
            object.__setattr__(self, "teacher_tta", None)

    def changed(self, **changes: Any) -> "TrainConfig":
        """This config with some values replaced; None leaves a value as it is (and "none" is no `teacher_tta`)."""
        known = {f.name for f in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise UsageError(f"Unknown training option {name!r}. Choices: {', '.join(sorted(known))}.")
        return dataclasses.replace(self, **{name: value for name, value in changes.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        return cls(**{**values, "augmentation": Augmentation(**values["augmentation"])})


@dataclass(frozen=True)
class Recipe:
    """A config with a sentence about it."""

    config: TrainConfig
    about: str


RECIPES: Registry[Recipe] = Registry("recipe")

RECIPES.register("tutorial")(
    Recipe(
        TrainConfig(augmentation=Augmentation(rotation=30, zoom=0.2, shear=0.2, flip=True)),
        # The tutorial's shear_range=0.2 means 0.2 degrees to ImageDataGenerator, and so it does here.
        "The tutorial's training exactly: Adam 1e-4, batch 64, 50 epochs, rotation 30 degrees, zoom 0.2, shear, flip.",
    )
)

RECIPES.register("better")(
    Recipe(
        TrainConfig(
            optimizer="adamw",
            epochs=60,
            learning_rate=1e-3,
            schedule="cosine",
            warmup_epochs=1,
            weight_decay=2e-2,
            label_smoothing=0.1,
            augmentation=Augmentation(rotation=10, zoom=0.1, shift=0.1, flip=True, contrast=0.2),
            recalibrate=True,
        ),
        "The tutorial's network, trained better: AdamW 1e-3 with warm-up and cosine, label smoothing, milder geometry, clean statistics.",
    )
)

RECIPES.register("strong")(
    Recipe(
        TrainConfig(
            model="compact",
            optimizer="sgd",
            epochs=50,
            batch_size=128,
            learning_rate=0.1,
            schedule="cosine",
            warmup_epochs=1,
            weight_decay=5e-3,
            label_smoothing=0.1,
            augmentation=Augmentation(
                rotation=12, zoom=0.12, shift=0.1, flip=True, contrast=0.25, brightness=0.1, erase=0.25
            ),
            mixup=0.2,
            mix_share=0.3,
            average=0.998,
            recalibrate=True,
        ),
        "The compact network from scratch: SGD with cosine, averaged weights, erasing, mixup, label smoothing.",
    )
)

RECIPES.register("fine-tune")(
    Recipe(
        TrainConfig(
            model="compact",
            optimizer="adamw",
            epochs=12,
            batch_size=32,
            learning_rate=3e-3,
            head_epochs=2,
            schedule="cosine",
            warmup_epochs=0.5,
            weight_decay=2e-2,
            label_smoothing=0.1,
            augmentation=Augmentation(rotation=10, zoom=0.1, shift=0.08, flip=True, contrast=0.2),
        ),
        "For --init or --weights, on data of your own: two epochs for the head alone, then all of it at a tenth of the rate.",
    )
)


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
    for value_field in dataclasses.fields(TrainConfig):
        value, before = getattr(config, value_field.name), getattr(usual, value_field.name)
        if value == before:
            continue
        if value_field.name == "augmentation":
            for name, number in dataclasses.asdict(value).items():
                if number != getattr(before, name):
                    words += ["--set", f"{_PART}{name}={_text(number)}"]
        elif value_field.name == "teachers" and value:
            for teacher in value:
                words += ["--teacher", teacher]
        elif value_field.name in OPTIONS and value is not None:
            words += [f"--{value_field.name.replace('_', '-')}", str(value)]
        else:
            words += ["--set", f"{value_field.name}={_text(value)}"]
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
