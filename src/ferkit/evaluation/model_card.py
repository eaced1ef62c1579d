"""The card of a model for people: `README.md` in the model folder, Markdown made from `card.json` alone.

It follows the model cards of Mitchell et al. (2019) and opens with the metadata that model hubs read. The same card
gives the same text, whenever and wherever it is written.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferkit._support.files import write_atomically
from ferkit.data import TRUTHS
from ferkit.errors import ModelError
from ferkit.evaluation import metrics
from ferkit.models import CARD_FILE, INTENDED_USE, ONNX_FILE, serving_file
from ferkit.render import (
    Block,
    Bullets,
    Code,
    CodeBlock,
    DataTable,
    Document,
    Inline,
    Section,
    Text,
    interval,
    joined,
    number,
    percent,
    to_markdown,
)

README_FILE = "README.md"

# What people must be told who are exposed to emotion recognition: Regulation (EU) 2024/1689, Art. 50(3) and (5).
NOTICE = (
    "An automated system is in use here. It looks at faces in the picture of a camera and estimates which expression other "
    "people would see in them, such as happy or sad. It cannot know what you feel, and it is often wrong. Purpose: [what "
    "for]. Responsible: [who, and how to reach them]. Pictures are [not stored / stored until ...]. Where to read more, and "
    "how to object: [where]."
)

# Metrics of a class with fewer faces say more about these faces than about the class.
_FEW = 100
# How many of the worst classes and corruptions are named.
_WORST = 3
# Confidence above accuracy by which a model counts as overconfident on corrupted images.
_OVERCONFIDENT = 0.1
_NEEDED = ("split", "n", "clean", "mean_accuracy", "relative_accuracy", "relative_accuracy_ci95", "degradations")

Entries = Mapping[str, Any]


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
        ModelError: an entry is of another kind than ferkit writes: the card may be untrusted.
    """
    try:
        return f"{_front_matter(card)}\n\n{to_markdown(card_document(card, name))}"
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as problem:
        raise ModelError(
            f"The card of the model cannot be described ({type(problem).__name__}: {problem}). Repair or remove the "
            "entry, or export the model again."
        ) from problem


def card_document(card: Entries, name: str = "path/to/this/folder") -> Document:
    """The card as a report. name: what ferkit loads the model by. Raises what a card of another kind makes of it."""
    measured, training = _entries(card, "metrics"), _entries(card, "training")
    architecture = card.get("architecture")
    sections = {
        "": _summary(card),
        "Intended and prohibited use": _use(card),
        "Metrics": _metrics(measured),
        "Per-class metrics": _classes(measured),
        "Calibration": _calibration(card, measured),
        "Sensitivity": _sensitivity(card, measured),
        "Robustness to image corruption": _robustness(card),
        "Known failures": _known(card, measured, name),
        "Data": _data(_entries(training, "data")),
        "Training": _training(training),
        "Usage": _usage(card, name),
        "Files, versions, license": _origin(card),
    }
    return Document(
        title=f"Facial expression recognition{f' with {_line(architecture)}' if architecture else ''}",
        about="",
        sections=tuple(Section(title, tuple(blocks)) for title, blocks in sections.items()),
    )


def _front_matter(card: Entries) -> str:
    lines = ["library_name: keras", "pipeline_tag: image-classification"]
    # The one entry that is free text; anything but a plain name could break the YAML.
    if re.fullmatch(r"[\w.+-]+", licence := str(card.get("licence") or "")):
        lines.insert(0, f"license: {licence.lower()}")
    tags = ("ferkit", "facial-expression-recognition", "emotion-recognition")
    return "\n".join(("---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"))


def _summary(card: Entries) -> Iterator[Block]:
    takes, classes = card["face_input"], card["classes"]
    size = [f"{card['parameters']:,} parameters"] if "parameters" in card else []
    if "multiply_adds" in card:
        size.append(f"{card['multiply_adds'] / 1e6:.1f} M multiply-adds per face")
    colour = "gray" if takes["channels"] == 1 else "RGB"
    yield Text(
        f"A network that predicts the expression people perceive in a face: {_listed(classes)}. "
        f"Input: a face of {takes['height']}x{takes['width']} {colour} pixels. Output: {len(classes)} probabilities"
        + (f"; {', '.join(size)}." if size else ".")
    )
    measured = _entries(card, "metrics")
    if "accuracy" in measured:
        f1 = f", macro-F1 {number(measured['macro_f1'])}" if "macro_f1" in measured else ""
        yield Text(
            f"Accuracy on {_split(measured)}: {_with_interval(measured['accuracy'], measured.get('accuracy_ci95'))}{f1}."
        )


def _use(card: Entries) -> Iterator[Block]:
    yield Text(_line(card.get("intended_use") or INTENDED_USE))
    yield Text(
        "Meant for research, teaching, and applications in which a wrong prediction harms no one. Not meant for hiring, "
        "grading, policing, border control, insurance, credit, medical diagnosis or the detection of lies."
    )
    yield Text(
        "Notice template for people who are exposed to the model. Complete it and show it before the first image is taken:"
    )
    yield Text(NOTICE, quote=True)


def _metrics(measured: Entries) -> Iterator[Block]:
    rows: list[tuple[str, str]] = []
    if "accuracy" in measured:
        rows.append(("accuracy", _with_interval(measured["accuracy"], measured.get("accuracy_ci95"))))
    for key, name in (("macro_f1", "macro-F1"), ("balanced_accuracy", "balanced accuracy"), ("nll", "log loss, nats")):
        if key in measured:
            value = measured[key]
            rows.append((name, percent(value) if key == "balanced_accuracy" else number(value)))
    if distinct := measured.get("without_duplicates"):
        low_high = metrics.wilson_interval(round(distinct["accuracy"] * distinct["n"]), distinct["n"])
        rows.append(("accuracy without duplicates", _with_interval(distinct["accuracy"], low_high)))
        rows.append(("macro-F1 without duplicates", number(distinct["macro_f1"])))
    if rows:
        faces = f", {measured['n']:,} faces" if "n" in measured else ""
        yield Text(f"Measured on {_split(measured)}{faces}.")
        yield DataTable(("metric", "value"), tuple(rows))
    if distinct:
        yield Text(
            f"Without duplicates: only the {distinct['n']:,} faces whose pixels occur neither in an earlier split nor earlier in this one."
        )
    if "note" in measured:
        yield Text(_line(measured["note"]))


def _classes(measured: Entries) -> Iterator[Block]:
    rows = []
    for name, one in _scored(measured):
        low_high = metrics.wilson_interval(round(one["recall"] * one["n"]), one["n"])
        shares = (percent(one["precision"]), percent(one["recall"]), interval(low_high, 0))
        rows.append((_line(name), f"{one['n']:,}", *shares, number(one["f1"])))
    if rows:
        yield DataTable(("class", "faces", "precision", "recall", "95% interval of recall", "F1"), tuple(rows))
        yield Text(
            "Precision: correct predictions of a class / all predictions of it. Recall: correct predictions of a class / all "
            "its faces."
        )


def _calibration(card: Entries, measured: Entries) -> Iterator[Block]:
    temperature = float(card["temperature"])
    said = (
        "Probabilities are not scaled (temperature 1)."
        if temperature == 1
        else f"ferkit divides the network's log-probabilities by a temperature of {number(temperature)}."
    )
    if "ece" in measured:
        before = measured.get("ece_uncalibrated")
        was = f"; without the temperature {percent(before)}" if before is not None and temperature != 1 else ""
        said += f" Expected calibration error (ECE, 15 bins): {percent(measured['ece'])}{was}."
    yield Text(said)


def _sensitivity(card: Entries, measured: Entries) -> Iterator[Block]:
    """How readily rare classes are predicted, and what that trades."""
    if "prior" not in card:
        return
    yield Text(
        f"Sensitivity {card.get('sensitivity', 0):g}: before the temperature, probabilities are divided by the class shares of "
        "the training faces to that power. 0 expects each class as often as in the training data, 1 all classes equally often. "
        "Change it with --sensitivity, or in Python with sensitivity=."
    )
    points = _entries(measured, "sensitivity").get("points", ())[::2]
    rows = tuple(
        (f"{one['sensitivity']:g}", percent(one["accuracy"]), percent(one["macro_recall"]), number(one["ece"]))
        for one in points
    )
    if rows:
        yield DataTable(("sensitivity", "accuracy", "macro recall", "ECE"), rows)
        yield Text("The temperature is fitted separately for each sensitivity.")


def _robustness_of(card: Entries) -> Entries:
    """What the card says about corrupted faces; empty where it does not say all of it."""
    found = _entries(card, "robustness")
    return found if all(name in found for name in _NEEDED) else {}


def _robustness(card: Entries) -> Iterator[Block]:
    """Accuracy on corrupted faces, as `ferkit evaluate --robustness` measures it."""
    found = _robustness_of(card)
    if not found:
        return
    yield Text(
        f"The same {found['n']:,} faces of {_split(found)}, corrupted. Mean accuracy over all corruptions: "
        f"{percent(found['mean_accuracy'])}; on the clean faces: {percent(found['clean']['accuracy'])}. "
        f"Relative accuracy (corrupted / clean): {_with_interval(found['relative_accuracy'], found['relative_accuracy_ci95'])}."
    )
    rows = []
    for name, one in found["degradations"].items():
        levels = zip(one["accuracy"], one["strengths"], strict=True)
        cells = [f"{percent(accuracy, 0)} at {strength:g}" for accuracy, strength in levels]
        rows.append((f"{_line(name)} ({_line(one['unit'])})", percent(one["mean_accuracy"], 0), ", ".join(cells)))
    yield DataTable(("corruption", "mean", "accuracy at each strength"), tuple(rows))


def _known(card: Entries, measured: Entries, name: str) -> Iterator[Block]:
    """What it does badly, and the commands that say so. name: what ferkit loads the model by."""
    yield Bullets(tuple(_failures(card, measured)))
    found = _robustness_of(card)
    commands = []
    truth = f" --votes VOTES --truth {measured['truth']}" if _truth(measured) else ""
    if "split" in measured:
        commands.append(f"ferkit evaluate {name} DATA --split {measured['split']}{truth}")
    if found:
        limit = f" --limit {found['n']}" if found.get("limited") else ""
        commands.append(f"ferkit evaluate {name} DATA --split {found['split']}{truth} --robustness{limit}")
    if commands:
        first, *more = (Code(one) for one in commands)
        yield Text(("These metrics come from ", first, *(part for one in more for part in (" and ", one)), "."))


def _failures(card: Entries, measured: Entries) -> Iterator[Inline]:
    """What its metrics say it does badly; the worst classes are named whatever their metrics are."""
    scored = _scored(measured)
    for key in ("recall", "precision") if len(scored) > 1 else ():
        worst = sorted(scored, key=lambda item: float(item[1][key]))[: min(_WORST, len(scored) - 1)]
        yield f"Lowest {key}: {', '.join(f'{_line(name)} {percent(one[key], 0)}' for name, one in worst)}."
    few = [f"{_line(name)} ({one['n']:,} faces)" for name, one in scored if one["n"] < _FEW]
    if few:
        yield f"Small sample: {joined(few)}; see the confidence interval."
    unseen = [_line(name) for name in card["classes"] if measured.get("per_class") and name not in dict(scored)]
    if unseen:
        yield f"Never measured, for lack of faces: {joined(unseen)}."
    distinct = measured.get("without_duplicates")
    if distinct and distinct["accuracy"] < measured.get("accuracy", 0):
        inflated = 100 * (measured["accuracy"] - distinct["accuracy"])
        yield f"Duplicates inflate accuracy by {inflated:.1f} percentage points."
    yield from _worst_corruptions(_robustness_of(card))
    yield (
        "It was not evaluated by age, gender, skin colour or camera, because the data does not record them. Before you rely on "
        "it, evaluate it on faces like yours, and by group (",
        Code("ferkit evaluate --groups"),
        ").",
    )
    yield "It always predicts a class, also for images without a face; its probabilities always sum to 1."


def _worst_corruptions(found: Entries) -> Iterator[str]:
    """The corruptions under which least is left, and those under which it is overconfident."""
    if not found:
        return
    # Of each corruption the strength at which least is left: accuracy, confidence, and what it is called.
    worst = []
    for name, one in found["degradations"].items():
        levels = zip(one["accuracy"], one["mean_confidence"], one["strengths"], strict=True)
        accuracy, confidence, strength = min(levels)
        worst.append((accuracy, confidence, f"{_line(name)} {strength:g} ({_line(one['unit'])})"))
    ranked = sorted(worst)[:_WORST]
    said = ", ".join(f"{percent(accuracy, 0)} at {called}" for accuracy, _, called in ranked)
    yield f"Lowest accuracy under corruption: {said}; {percent(found['clean']['accuracy'], 0)} on the clean faces."
    blind = [one for one in ranked if one[1] - one[0] > _OVERCONFIDENT]
    if blind:
        stated = ", ".join(f"{percent(confidence, 0)} at {called}" for _, confidence, called in blind)
        yield f"Overconfident there: mean confidence {stated}."


def _data(data: Entries) -> Iterator[Block]:
    if "source" in data:
        splits = [f"{_line(name)} ({faces:,} faces)" for name, faces in _entries(data, "faces").items()]
        votes = ", with FER+ votes" if data.get("votes") else ""
        yield Text((Code(data["source"]), f"{votes}{f', split into {joined(splits)}' if splits else ''}."))
    if "fingerprint" in data:
        yield Text(("Fingerprint of faces and splits: ", Code(data["fingerprint"])))


def _training(training: Entries) -> Iterator[Block]:
    if "epochs_done" in training:
        best = f"; epoch {training['best_epoch']} was kept" if "best_epoch" in training else ""
        minutes = f", {training['seconds'] / 60:,.0f} minutes of training steps" if "seconds" in training else ""
        yield Text(f"{training['epochs_done']} epochs{minutes}{best}.")
    if "note" in training:
        yield Text(_line(training["note"]))
    rows = tuple((name, Code(value)) for name, value in _switched_on(_entries(training, "recipe")))
    if rows:
        yield DataTable(("recipe value", "setting"), rows)
        yield Text("Values that are not listed are switched off.")
    sessions = [one for one in training.get("sessions", training.get("sittings")) or () if isinstance(one, Mapping)]
    if sessions:
        parts: list[str] = ["Sessions: "]
        for place, (machine, times) in enumerate(Counter(map(_machine, sessions)).items()):
            parts += [f"{'; ' if place else ''}{times} with ", *machine]
        yield Text((*parts, "."))


def _machine(session: Entries) -> tuple[str, ...]:
    said = _line(session.get("backend", "an unknown backend"))
    if session.get("cpu_count"):
        said += f", {session['cpu_count']} cores"
    return (f"{said}, ferkit at commit ", Code(session["commit"])) if session.get("commit") else (said,)


def _switched_on(recipe: Entries, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _switched_on(value, f"{name}.")
        elif value or name == "seed":
            yield f"{prefix}{name}", value


def _usage(card: Entries, name: str) -> Iterator[Block]:
    yield Text("With ferkit, which also detects and crops the faces:")
    yield CodeBlock(
        f"""import ferkit

for face in ferkit.EmotionRecognizer("{name}")("photo.jpg"):
    print(face.label, face.confidence)""",
        "python",
    )
    serving = serving_file(card)
    if serving is None:
        return
    if serving != ONNX_FILE:
        yield Text("Without ferkit, for a cropped face of any size:")
        yield CodeBlock(
            f"""import json, numpy, onnxruntime, PIL.Image

classes = json.load(open("{CARD_FILE}", encoding="utf-8"))["classes"]
face = numpy.asarray(PIL.Image.open("face.png").convert("RGB"))[None]
answer = onnxruntime.InferenceSession("{serving}").run(None, {{"faces": face}})[0][0]
print(dict(zip(classes, answer.tolist())))""",
            "python",
        )
        return
    takes = card["face_input"]
    height, width, channels = takes["height"], takes["width"], takes["channels"]
    adjusted = '(answer / numpy.power(card["prior"], card["sensitivity"]))' if "prior" in card else "answer"
    yield Text("Without ferkit, for a cropped face:")
    yield CodeBlock(
        f"""import json, numpy, onnxruntime, PIL.Image

card = json.load(open("{CARD_FILE}", encoding="utf-8"))
face = PIL.Image.open("face.png").convert("{"L" if channels == 1 else "RGB"}").resize(({width}, {height}))
session = onnxruntime.InferenceSession("{ONNX_FILE}")
pixels = numpy.asarray(face, numpy.uint8).reshape(1, {height}, {width}, {channels})
answer = session.run(None, {{session.get_inputs()[0].name: pixels}})[0][0]
powers = {adjusted} ** (1 / card["temperature"])
print(dict(zip(card["classes"], (powers / powers.sum()).tolist())))""",
        "python",
    )


def _origin(card: Entries) -> Iterator[Block]:
    rows = tuple((Code(name), Code(checksum)) for name, checksum in _entries(card, "sha256").items())
    if rows:
        yield DataTable(("file", "SHA-256"), rows)
    versions = ", ".join(f"{_line(name)} {_line(release)}" for name, release in _entries(card, "versions").items())
    made = f"Made on {_line(card['created'])}" if "created" in card else "Made"
    if versions:
        yield Text(f"{made} with {versions}.")
    yield Text(f"License: {_line(card['licence'])}." if card.get("licence") else "License: not stated.")


def _entries(card: Entries, name: str) -> Entries:
    found = card.get(name)
    return found if isinstance(found, Mapping) else {}


def _scored(measured: Entries) -> list[tuple[str, Entries]]:
    """Classes that have faces, hence metrics."""
    return [(name, one) for name, one in _entries(measured, "per_class").items() if one.get("n")]


def _split(measured: Entries) -> str:
    """What it was measured on, and the ground truth, if it is not the labels."""
    split = _line(measured.get("split", "held-out faces"))
    named = _truth(measured)
    return f"{split} ({named})" if named else split


def _truth(measured: Entries) -> str:
    """The ground truth in words; empty for the labels, and for what a card of others says."""
    return TRUTHS.get(str(measured.get("truth")), "").replace("labels", "label")


def _with_interval(share: float, low_high: Sequence[float] | None) -> str:
    return percent(float(share)) + ("" if low_high is None else f" (95% interval {interval(low_high)})")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_line, names))


def _line(value: Any) -> str:
    """Anything from a card as one line of text."""
    return " ".join(str(value).split())
