"""How a network is trained: `TrainConfig`, and named recipes, which are nothing but filled-in configs.

Values of a `TrainConfig` as words of a command line: `mixup=0.2`, `augmentation.erase=0.25`, and back.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferkit._support.registry import Listed, Registry, unknown
from ferkit.errors import UsageError
from ferkit.models import ARCHITECTURES, TTA
from ferkit.training.augmentation import Augmentation
from ferkit.training.schedules import SCHEDULES
from ferkit.training.values import Between, ByOptimizer, OneOf, Space, declared, get, settle, value

OPTIMIZERS = ("adam", "adamw", "sgd", "lion")
PRECISIONS = ("float32", "bfloat16")
# Names that values had in earlier versions.
FORMER_NAMES = {"thaw": "unfreeze", "thaw_rate": "unfreeze_rate"}
_ADAM = Between(1e-4, 1e-2, log=True)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides how a run goes; stored in the run folder as `config.json`. Values:"""

    model: str = value("tutorial", "Architecture (see `ferkit models`).", choices=ARCHITECTURES, option=True)
    activation: str = value("relu", "Activation: relu, leaky_relu, gelu, silu or any other of Keras.", option=True)
    epochs: int = value(50, "Passes over the training faces.", least=1, option=True)
    batch_size: int = value(
        64,
        "Faces per step. The incomplete last batch of an epoch is left out.",
        least=1,
        option=True,
        search=OneOf((32, 64, 128, 256)),
    )
    optimizer: str = value(
        "adam",
        "Optimizer. SGD has Nesterov momentum 0.9; Lion (Chen et al. 2023) needs a learning rate 3 to 10 times lower than AdamW.",
        choices=OPTIMIZERS,
        option=True,
        search=OneOf(OPTIMIZERS),
    )
    learning_rate: float = value(
        1e-4,
        "Peak learning rate of the schedule.",
        above=0,
        option=True,
        search=ByOptimizer(
            {"adam": _ADAM, "adamw": _ADAM, "sgd": Between(1e-2, 0.5, log=True), "lion": Between(1e-5, 1e-3, log=True)}
        ),
    )
    schedule: str = value("constant", "Schedule of the learning rate.", choices=SCHEDULES, option=True)
    warmup_epochs: float = value(
        0.0, "Epochs of linear rise from a hundredth of the rate at the start (schedule cosine only).", least=0
    )
    weight_decay: float = value(
        0.0,
        "Decoupled weight decay, as in AdamW (Loshchilov & Hutter 2019).",
        least=0,
        search=Between(1e-4, 0.1, log=True),
    )
    accumulate: int = value(
        1,
        "Gradient accumulation: number of batches per optimizer step, for a large batch in little memory.",
        least=1,
    )
    label_smoothing: float = value(
        0.0,
        "Label smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016).",
        least=0,
        below=1,
        search=Between(0, 0.2),
    )
    focal: float = value(
        0.0,
        "Gamma of the focal loss (Lin et al. 2017): correctly classified faces count less; 0 is plain cross-entropy.",
        least=0,
    )
    class_weight: float = value(
        0.0,
        "Class weights: power of the inverse class frequency. 0 weights all faces equally, 1 gives every class the same total weight.",
        least=0,
    )
    votes_weight: float = value(
        0.0,
        "Share of the loss of a second head, on FER+ votes; the first head is trained on the labels. With 0, there is one head, "
        "trained on the votes if the data has them.",
        least=0,
        below=1,
    )
    teachers: tuple[str, ...] = value(
        (),
        "Teacher for distillation: its prediction for each face is part of the target (Hinton et al. 2015). A model, folds "
        "(--folds), which predict each face out of fold, or a file of predictions. Repeatable; predictions are averaged.",
        option=("--teacher",),
    )
    teacher_tta: str | None = value("flip", "Test-time augmentation of the teachers; none uses one view.", choices=TTA)
    teacher_share: float = value(0.5, "Share of the teachers' prediction in the target.", least=0, most=1)
    teacher_views: int = value(
        0,
        "Fixed augmented views of each face on which the teachers predict and the student is trained, each view with its own prediction; 0: "
        "the teachers predict the unaugmented face, and the student gets new augmentations in each epoch.",
        least=0,
    )
    teacher_temperature: float = value(1.0, "Temperature of the teachers' prediction; above 1 it is softer.", above=0)
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixup: float = value(
        0.0,
        "Mixup: alpha of the Beta distribution by which faces and targets are mixed (Zhang et al. 2018); 0 is off.",
        least=0,
        search=Between(0, 0.5),
    )
    cutmix: float = value(
        0.0,
        "CutMix: the same for rectangles of another face (Yun et al. 2019); with `mixup`, one of them at a time.",
        least=0,
        search=Between(0, 1),
    )
    mix_share: float = value(1.0, "Share of batches that are mixed, if `mixup` or `cutmix` is set.", least=0, most=1)
    average: float = value(
        0.0,
        "Decay of the exponential moving average (EMA) of the weights, which is evaluated and saved; 0 disables it. 0.999 averages "
        "about 1,000 steps, or a tenth of a shorter run.",
        least=0,
        below=1,
        search=OneOf((0.0, 0.99, 0.995, 0.998, 0.999)),
    )
    precision: str = value(
        "float32",
        "Precision of activations and gradients (Micikevicius et al. 2018). bfloat16 is faster on CPUs that support it, and "
        "slower on others; the saved model is always float32.",
        choices=PRECISIONS,
        option=True,
    )
    recalibrate: bool = value(
        False, "Recompute the batch-norm statistics on clean faces after each epoch (batch-norm recalibration)."
    )
    patience: int | None = value(
        None,
        "Early stopping: stop after this many epochs without a better validation accuracy; none never stops early.",
        least=1,
        option=True,
    )
    init: str | None = value(
        None,
        "Initialize the weights from this model: those of layers with the same name and shapes, of the head only for the same classes.",
        option=True,
    )
    weights: str = value(
        "none",
        "Pretrained weights: none, imagenet, a file, or a name from docs/fine-tuning.md (faceres-deep, dlib-resnet, efficientnet-lite0).",
        option=True,
    )
    head_epochs: int = value(
        0,
        "Train only the head for this many epochs, with the backbone frozen; 0 trains everything at once.",
        least=0,
        option=True,
    )
    unfreeze: int | None = value(
        None,
        "Number of backbone layers to unfreeze afterwards. [default: all]",
        least=1,
        option=("--unfreeze", "--thaw"),
    )
    unfreeze_rate: float | None = value(
        None,
        "Peak learning rate after unfreezing. [default: a tenth of the head's]",
        above=0,
        option=("--unfreeze-rate", "--thaw-rate"),
    )
    seed: int = value(
        42, "Random seed for weights, data order, augmentation and dropout.", least=0, below=2**32, option=True
    )

    def __post_init__(self) -> None:
        settle(self)
        epochs, head, warmup = self.epochs, self.head_epochs, self.warmup_epochs
        if head >= epochs:
            raise UsageError(
                f"head_epochs ({head}) must be smaller than epochs ({epochs}). Use --epochs {head + 1} or --head-epochs 0."
            )
        if self.unfreeze_rate is not None and not head:
            raise UsageError(
                "unfreeze_rate is the rate after the head's epochs, and head_epochs is 0. Set head_epochs, or learning_rate alone."
            )
        if self.teacher_views and not self.teachers:
            raise UsageError(
                f"teacher_views ({self.teacher_views}) are predicted by teachers, and there are none. Name one with --teacher."
            )
        phases = {"head_epochs": head, "epochs - head_epochs": epochs - head} if head else {"epochs": epochs}
        for name, count in phases.items():
            if self.schedule == "cosine" and warmup >= count:
                raise UsageError(
                    f"{name} ({count}) must be larger than warmup_epochs ({warmup:g}), or the learning rate never leaves its "
                    "warm-up. Use more --epochs, or --set warmup_epochs=0."
                )

    def changed(self, **changes: Any) -> "TrainConfig":
        """This config with some values replaced; those of the augmentation too, as `**{"augmentation.zoom": 0.1}`."""
        known = [*declared(TrainConfig), "augmentation"]
        own: dict[str, Any] = {"augmentation": self.augmentation}
        for name, one in changes.items():
            if name not in known:
                raise unknown("training option", name, known)
            if "." not in name:
                own[name] = one
        varied = {name.partition(".")[2]: one for name, one in changes.items() if "." in name}
        own["augmentation"] = dataclasses.replace(own["augmentation"], **varied)
        return dataclasses.replace(self, **own)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Raises `UsageError` for values that there are not, or no longer."""
        values = {FORMER_NAMES.get(name, name): one for name, one in values.items()}
        if unknown_names := values.keys() - {one.name for one in dataclasses.fields(cls)}:
            raise UsageError(f"it is of another version of ferkit, with {', '.join(sorted(unknown_names))}")
        return cls().changed(**{**values, "augmentation": Augmentation(**values["augmentation"])})


for _owner in (TrainConfig, Augmentation):
    _owner.__doc__ = "\n\n    ".join(
        [
            _owner.__doc__ or "",
            *(f"{name}: {one.value.help}" for name, one in declared(_owner).items() if "." not in name),
        ]
    )


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
        "The tutorial's network, trained better: AdamW 1e-3 with warm-up and cosine, label smoothing, milder geometric augmentation, batch-norm recalibration.",
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
        "The compact network from scratch: SGD with cosine, EMA of the weights, random erasing, mixup, label smoothing.",
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
        "For --init or --weights, on your own data: two epochs for the head alone, then all layers at a tenth of the learning rate.",
    )
)


def list_recipes() -> list[Listed]:
    """All recipes with their main values."""
    shown = ("model", "epochs", "batch_size", "optimizer", "learning_rate", "schedule")
    listed = []
    for name, recipe in RECIPES.items():
        values = {key: getattr(recipe.config, key) for key in shown}
        facts = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in values.items())
        listed.append(Listed(name, recipe.about, (facts,), values))
    return listed


USUAL_SEARCH = ("learning_rate", "weight_decay", "label_smoothing")
USUAL_EPOCHS = 5
# What can be searched; the optimizer stands before its rate.
SPACE: Mapping[str, Space] = Registry.of(
    "value to search",
    {
        name: one.value.search
        for name, one in sorted(declared(TrainConfig).items(), key=lambda item: item[0] != "optimizer")
        if one.value.search
    },
)


def changes_of(settings: Sequence[str]) -> dict[str, Any]:
    """Changes for `TrainConfig.changed` from words `name=value`. Raises `UsageError` for what there is not or does not fit.

    >>> changes_of(["mixup=0.2", "patience=none", "augmentation.flip=true"])
    {'mixup': 0.2, 'patience': None, 'augmentation.flip': True}
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"A setting is NAME=VALUE, as in mixup=0.2. Received: {setting!r}.")
        name = FORMER_NAMES.get(name, name)
        if name not in declared(TrainConfig):
            raise unknown("setting", name, list(declared(TrainConfig)))
        changes[name] = declared(TrainConfig)[name].parse(text)
    return changes


def recipe_of(text: str) -> tuple[str, dict[str, Any]]:
    """A recipe and its changes from words as `strong mixup=0.2`. Raises `UsageError` for what there is not.

    >>> recipe_of("strong epochs=30 mixup=0.2")
    ('strong', {'epochs': 30, 'mixup': 0.2})
    """
    name, *settings = text.split() or [""]
    _ = RECIPES[name]
    return name, changes_of(settings)


def to_args(config: TrainConfig, usual: TrainConfig) -> list[str]:
    """The options of `ferkit train` that turn one config into another, e.g. ["--epochs", "100", "--set", "mixup=0.0"]."""
    words: list[str] = []
    for name, one in declared(TrainConfig).items():
        now = get(config, name)
        if now == get(usual, name):
            continue
        if one.options and now not in (None, ()):
            for part in now if one.kind is tuple else [now]:
                words += [one.options[0], str(part)]
        else:
            text = ",".join(now) if one.kind is tuple else str(now)
            words += ["--set", f"{name}={text.lower() if now is None or one.kind is bool else text}"]
    return words
