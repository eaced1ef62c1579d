"""How the card writes numbers and words: plain Markdown, whatever stands in the card.

What the figures in a card say that a model does badly, and on degraded faces.

The card of a model for people: `README.md` in the model folder, plain Markdown made from `card.json` alone.

It follows the model cards of Mitchell et al. (2019) and opens with the metadata that model hubs read. The same card
gives the same text, whenever and wherever it is written.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferkit._support.files import write_atomically
from ferkit.errors import ModelError
from ferkit.evaluation import metrics
from ferkit.models import CARD_FILE, INTENDED_USE, ONNX_FILE

Entries = Mapping[str, Any]


def entries(card: Entries, name: str) -> Entries:
    found = card.get(name)
    return found if isinstance(found, Mapping) else {}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return "\n".join((lines[0], f"|{'---|' * len(heads)}", *lines[1:]))


def split(measured: Entries) -> str:
    """What it was measured on, and against whom, if not the labels."""
    split = plain(measured.get("split", "held-out faces"))
    return f"{split} (by most voters' choice)" if measured.get("truth") == "votes" else split


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def points(share: float) -> str:
    return f"{100 * share:.1f} points"


def interval(low_high: Sequence[float] | None) -> str:
    return "" if low_high is None else f" (95 % interval {100 * low_high[0]:.1f} to {100 * low_high[1]:.1f})"


def listed(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names))


def joined(parts: Iterator[str] | list[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def plain(value: Any) -> str:
    """Text from the data, such as a class name, with nothing in it that Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(str(value).split()))


def code(value: Any) -> str:
    """The same for what stands between backticks, where nothing can be escaped."""
    return re.sub(r"[`|]", "'", " ".join(str(value).split()))


# Figures of a class with fewer faces say more about these faces than about the class.
_FEW = 100
# How many of the worst classes and degradations are named.
_WORST = 3
# States so much more confidence than accuracy that it does not notice how bad a picture is.
_UNNOTICED = 0.1
_NEEDED = ("split", "n", "clean", "mean_accuracy", "relative_accuracy", "relative_accuracy_ci95", "degradations")


def robustness_of(card: Entries) -> Entries:
    """What the card says about degraded faces; empty where it does not say all of it."""
    found = entries(card, "robustness")
    return found if all(name in found for name in _NEEDED) else {}


def degraded(card: Entries) -> Iterator[str]:
    """Accuracy on faces that were made worse on purpose, as `ferkit evaluate --robustness` measures it."""
    found = robustness_of(card)
    if not found:
        return
    yield (
        f"The same {found['n']:,} faces of {split(found)}, degraded. {percent(found['mean_accuracy'])} are right on the mean "
        f"of all degradations, {percent(found['clean']['accuracy'])} as they are: {percent(found['relative_accuracy'])} of "
        f"the accuracy is left{interval(found['relative_accuracy_ci95'])}."
    )
    rows = []
    for name, one in found["degradations"].items():
        levels = zip(one["accuracy"], one["strengths"], strict=True)
        cells = [f"{percent(accuracy, 0)} at {strength:g}" for accuracy, strength in levels]
        rows.append((f"{plain(name)} ({plain(one['unit'])})", percent(one["mean_accuracy"], 0), ", ".join(cells)))
    yield table(("degradation", "mean", "right, at each strength"), rows)


def known(card: Entries, measured: Entries, name: str) -> Iterator[str]:
    """What it is known to do badly, and the commands that say so. name: what ferkit loads the model by."""
    yield "\n".join(f"- {one}" for one in failures(card, measured))
    found = robustness_of(card)
    commands = []
    if "split" in measured:
        truth = " --votes VOTES --truth votes" if measured.get("truth") == "votes" else ""
        commands.append(f"ferkit evaluate {name} DATA --split {code(measured['split'])}{truth}")
    if found:
        limit = f" --limit {found['n']}" if found.get("limited") else ""
        commands.append(f"ferkit evaluate {name} DATA --split {code(found['split'])} --robustness{limit}")
    if commands:
        yield f"These figures come from {joined([f'`{one}`' for one in commands])}."


def failures(card: Entries, measured: Entries) -> Iterator[str]:
    """What the figures say it does badly; the worst classes are named whatever their figures are."""
    scored = scored_classes(measured)
    if len(scored) > 1:
        by_recall = sorted(scored, key=lambda item: item[1]["recall"])[: min(_WORST, len(scored) - 1)]
        found = (f"{percent(one['recall'], 0)} of {plain(name)}" for name, one in by_recall)
        yield f"It overlooks most often: of the faces so labelled it finds {joined(found)}."
        by_precision = sorted(scored, key=lambda item: item[1]["precision"])[: min(_WORST, len(scored) - 1)]
        right = (f"{plain(name)} ({percent(one['precision'], 0)})" for name, one in by_precision)
        yield f"Least to be believed are its answers {joined(right)}: the share that is labelled so."
    few = [f"{plain(name)} ({one['n']:,})" for name, one in scored if one["n"] < _FEW]
    if few:
        yield f"Few faces to measure on: {joined(few)}. Figures of such a class may be far off, see its interval."
    unseen = [plain(name) for name in card["classes"] if measured.get("per_class") and name not in dict(scored)]
    if unseen:
        yield f"Never measured, for want of faces: {joined(unseen)}."
    distinct = measured.get("without_duplicates")
    if distinct and distinct["accuracy"] < measured.get("accuracy", 0):
        yield f"Pictures that occur more than once flatter it by {points(measured['accuracy'] - distinct['accuracy'])}."
    yield from bad_pictures(robustness_of(card))
    yield (
        "It was not measured by age, gender, skin colour or camera, for want of data that says so. Measure it on faces like "
        "those that it will see, and by group (`ferkit evaluate --groups`), before relying on it."
    )
    yield "It answers whatever it is shown, faces or not; its probabilities always sum to 1."


def bad_pictures(found: Entries) -> Iterator[str]:
    """The degradations under which least is left, and those that it does not notice."""
    if not found:
        return
    # Of each degradation the strength at which least is left: accuracy, stated confidence, and what it is called.
    worst = []
    for name, one in found["degradations"].items():
        levels = zip(one["accuracy"], one["mean_confidence"], one["strengths"], strict=True)
        accuracy, confidence, strength = min(levels)
        worst.append((accuracy, confidence, f"{plain(name)} {strength:g} ({plain(one['unit'])})"))
    ranked = sorted(worst)[:_WORST]
    said = (f"{percent(accuracy, 0)} at {called}" for accuracy, _, called in ranked)
    yield f"Of bad pictures it gets few right: {joined(said)}; {percent(found['clean']['accuracy'], 0)} of the same as they are."
    blind = [one for one in ranked if one[1] - one[0] > _UNNOTICED]
    if blind:
        stated = (f"{percent(confidence, 0)} at {called}" for _, confidence, called in blind)
        yield f"It does not notice, and states a confidence of {joined(stated)}."


def scored_classes(measured: Entries) -> list[tuple[str, Entries]]:
    """Classes that have faces, hence figures."""
    return [(name, one) for name, one in entries(measured, "per_class").items() if one.get("n")]


README_FILE = "README.md"

# What people must be told who are exposed to emotion recognition: Regulation (EU) 2024/1689, Art. 50(3) and (5).
NOTICE = (
    "An automated system is in use here. It looks at faces in the picture of a camera and estimates which expression other "
    "people would see in them, such as happy or sad. It cannot know what you feel, and it is often wrong. Purpose: [what "
    "for]. Responsible: [who, and how to reach them]. Pictures are [not stored / stored until ...]. Where to read more, and "
    "how to object: [where]."
)


def write(folder: Path, card: Entries, *, file: str = README_FILE, name: str = "path/to/this/folder") -> Path:
    """Write `README.md` beside `card.json`; `card` is what that file holds, as `model_folder.read_card` gives it.

    file, name: for a model without a folder of its own; what its card is called, and what ferkit loads it by.

    Raises:
        ModelError: the file cannot be written.
    """
    path = Path(folder) / file
    with write_atomically(path, ModelError) as draft:
        draft.write_text(text_of(card, name), encoding="utf-8")
    return path


def text_of(card: Entries, name: str = "path/to/this/folder") -> str:
    """The card as Markdown. `classes`, `face_input` and `temperature` must be there; what else is missing is left out.

    Raises:
        ModelError: an entry is of another kind than ferkit writes: the card may be a stranger's.
    """
    try:
        return _text_of(card, name)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as problem:
        raise ModelError(
            f"The card of the model cannot be described ({type(problem).__name__}: {problem}). Repair or remove the "
            "entry, or export the model again."
        ) from problem


def _text_of(card: Entries, name: str) -> str:
    measured = entries(card, "metrics")
    sections = (
        ("", _summary(card)),
        ("Intended and prohibited use", _use(card)),
        ("How good it is", _figures(measured)),
        ("Each class", _classes(measured)),
        ("Calibration", _calibration(card, measured)),
        ("When pictures get worse", degraded(card)),
        ("Known failures", known(card, measured, name)),
        ("Data", _data(entries(card, "training"))),
        ("Training", _training(entries(card, "training"))),
        ("How to use it", _usage(card, name)),
        ("Files, versions, licence", _origin(card)),
    )
    written = [_front_matter(card)]
    for title, content in sections:
        blocks = list(content)
        if blocks:
            written += [f"## {title}", *blocks] if title else blocks
    return "\n\n".join(written) + "\n"


def _front_matter(card: Entries) -> str:
    lines = ["library_name: keras", "pipeline_tag: image-classification"]
    # The one entry that is free text; anything but a plain name could break the YAML.
    if re.fullmatch(r"[\w.+-]+", licence := str(card.get("licence") or "")):
        lines.insert(0, f"license: {licence.lower()}")
    tags = ("ferkit", "facial-expression-recognition", "emotion-recognition")
    return "\n".join(("---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"))


def _summary(card: Entries) -> Iterator[str]:
    name, takes, classes = card.get("architecture"), card["face_input"], card["classes"]
    yield f"# Facial expression recognition{f' with {plain(name)}' if name else ''}"
    size = [f"{card['parameters']:,} parameters"] if "parameters" in card else []
    if "multiply_adds" in card:
        size.append(f"{card['multiply_adds'] / 1e6:.1f} M multiply-adds per face")
    colour = "gray" if takes["channels"] == 1 else "RGB"
    yield (
        f"A network that names the expression people perceive in a face: {listed(classes)}. "
        f"It takes a face of {takes['height']}x{takes['width']} {colour} pixels and gives {len(classes)} probabilities"
        + (f"; {', '.join(size)}." if size else ".")
    )
    measured = entries(card, "metrics")
    if "accuracy" in measured:
        between = interval(measured.get("accuracy_ci95"))
        f1 = f", macro-F1 {measured['macro_f1']:.3f}" if "macro_f1" in measured else ""
        yield f"{percent(measured['accuracy'])} of {split(measured)} right{between}{f1}."


def _use(card: Entries) -> Iterator[str]:
    yield plain(card.get("intended_use") or INTENDED_USE)
    yield (
        "Meant for research, teaching, and applications in which a wrong answer harms nobody. Not meant for hiring, "
        "grading, policing, border control, insurance, credit, medical diagnosis or the detection of lies."
    )
    yield f"A notice for those who are exposed to it, to be completed and shown before the first picture is taken:\n\n> {NOTICE}"


def _figures(measured: Entries) -> Iterator[str]:
    rows: list[tuple[str, str]] = []
    if "accuracy" in measured:
        rows.append(("accuracy", percent(measured["accuracy"]) + interval(measured.get("accuracy_ci95"))))
    for key, name in (("macro_f1", "macro-F1"), ("balanced_accuracy", "balanced accuracy"), ("nll", "log loss, nats")):
        if key in measured:
            value = measured[key]
            rows.append((name, percent(value) if key == "balanced_accuracy" else f"{value:.3f}"))
    if distinct := measured.get("without_duplicates"):
        low_high = metrics.wilson_interval(round(distinct["accuracy"] * distinct["n"]), distinct["n"])
        rows.append(("accuracy without duplicates", percent(distinct["accuracy"]) + interval(low_high)))
        rows.append(("macro-F1 without duplicates", f"{distinct['macro_f1']:.3f}"))
    if rows:
        count = f", {measured['n']:,} faces" if "n" in measured else ""
        yield f"Measured on {split(measured)}{count}."
        yield table(("figure", "value"), rows)
    if distinct:
        yield (
            f"Without duplicates: on the {distinct['n']:,} faces whose pixels stand in no earlier split, nor earlier in "
            "this one."
        )
    if "note" in measured:
        yield plain(measured["note"])


def _classes(measured: Entries) -> Iterator[str]:
    rows = []
    for name, one in scored_classes(measured):
        low, high = metrics.wilson_interval(round(one["recall"] * one["n"]), one["n"])
        shares = (percent(one["precision"]), percent(one["recall"]), f"{100 * low:.0f} to {100 * high:.0f} %")
        rows.append((plain(name), f"{one['n']:,}", *shares, f"{one['f1']:.3f}"))
    if rows:
        yield table(("class", "faces", "precision", "recall", "95 % interval of recall", "F1"), rows)
        yield (
            "Precision: of the faces called so, the share that is labelled so. Recall: of the faces labelled so, the "
            "share that was found."
        )


def _calibration(card: Entries, measured: Entries) -> Iterator[str]:
    temperature = float(card["temperature"])
    done = (
        "Probabilities are used as the network gives them (temperature 1)."
        if temperature == 1
        else f"The network's log-probabilities are divided by a temperature of {temperature:.3f}; ferkit does so by itself."
    )
    if "ece" in measured:
        before = measured.get("ece_uncalibrated")
        was = f"; without the temperature {points(before)}" if before is not None and temperature != 1 else ""
        done += f" Confidence and accuracy are {points(measured['ece'])} apart on average (ECE, 15 bins){was}."
    yield done


def _data(training: Entries) -> Iterator[str]:
    data = entries(training, "data")
    if "source" in data:
        splits = [f"{plain(name)} ({count:,} faces)" for name, count in entries(data, "faces").items()]
        votes = ", with FER+ votes" if data.get("votes") else ""
        yield f"`{code(data['source'])}`{votes}{f', split into {joined(splits)}' if splits else ''}."
    if "fingerprint" in data:
        yield f"Fingerprint of faces and splits: `{code(data['fingerprint'])}`"


def _training(training: Entries) -> Iterator[str]:
    if "epochs_done" in training:
        best = f"; epoch {training['best_epoch']} was kept" if "best_epoch" in training else ""
        minutes = f", {training['seconds'] / 60:,.0f} minutes of steps" if "seconds" in training else ""
        yield f"{training['epochs_done']} epochs{minutes}{best}."
    if "note" in training:
        yield plain(training["note"])
    rows = [(name, f"`{code(value)}`") for name, value in _switched_on(entries(training, "recipe"))]
    if rows:
        yield table(("recipe value", "setting"), rows)
        yield "Values that are not listed are switched off."
    sittings = [one for one in training.get("sessions", training.get("sittings")) or () if isinstance(one, Mapping)]
    if sittings:
        places = Counter(_place(one) for one in sittings)
        yield f"Sittings: {'; '.join(f'{count} with {place}' for place, count in places.items())}."


def _usage(card: Entries, name: str) -> Iterator[str]:
    yield f"""With ferkit, which also finds and cuts out the faces:

```python
import ferkit

for face in ferkit.EmotionRecognizer("{name}")("photo.jpg"):
    print(face.label, face.confidence)
```"""
    if ONNX_FILE not in entries(card, "sha256"):
        return
    takes = card["face_input"]
    height, width, channels = takes["height"], takes["width"], takes["channels"]
    yield f"""Without ferkit, for a face that was cut out of its picture:

```python
import json, numpy, onnxruntime, PIL.Image

card = json.load(open("{CARD_FILE}", encoding="utf-8"))
face = PIL.Image.open("face.png").convert("{"L" if channels == 1 else "RGB"}").resize(({width}, {height}))
session = onnxruntime.InferenceSession("{ONNX_FILE}")
pixels = numpy.asarray(face, numpy.uint8).reshape(1, {height}, {width}, {channels})
powers = session.run(None, {{session.get_inputs()[0].name: pixels}})[0][0] ** (1 / card["temperature"])
print(dict(zip(card["classes"], (powers / powers.sum()).tolist())))
```"""


def _origin(card: Entries) -> Iterator[str]:
    sums = entries(card, "sha256")
    rows = [(f"`{code(name)}`", f"`{code(checksum)}`") for name, checksum in sums.items()]
    if rows:
        yield table(("file", "SHA-256"), rows)
    versions = ", ".join(f"{plain(name)} {plain(number)}" for name, number in entries(card, "versions").items())
    made = f"Made on {plain(card['created'])}" if "created" in card else "Made"
    if versions:
        yield f"{made} with {versions}."
    yield f"Licence: {plain(card['licence'])}." if card.get("licence") else "Licence: not stated."


def _place(sitting: Entries) -> str:
    parts = [plain(sitting.get("backend", "an unknown backend"))]
    if sitting.get("cpu_count"):
        parts.append(f"{sitting['cpu_count']} cores")
    if sitting.get("commit"):
        parts.append(f"ferkit at commit `{code(sitting['commit'])}`")
    return ", ".join(parts)


def _switched_on(recipe: Entries, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _switched_on(value, f"{name}.")
        elif value or name == "seed":
            yield f"{prefix}{name}", value
