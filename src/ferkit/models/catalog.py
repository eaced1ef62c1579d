"""What there is to choose from: trained models, with their speed on this machine, and architectures."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from ferkit._support.registry import Listed, describe, median_seconds, milliseconds
from ferkit.data import TRUTHS
from ferkit.errors import FerkitError
from ferkit.models import model_folder
from ferkit.models.architectures import ARCHITECTURES
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.model_files import BEFORE_EXPORT

_BATCH = 64


def list_models(others: Sequence[str] = ()) -> list[Listed]:
    """The packaged models and those that are named besides, as their cards describe them; one may have a `problem`."""
    return [_trained(name) for name in (*model_folder.PACKAGED, *others)]


def list_architectures() -> list[Listed]:
    """The networks that can be trained."""
    # Looked for, not imported: that takes seconds.
    problem = None if find_spec("keras") is not None else "needs Keras: pip install 'ferkit[train]'"
    listed = []
    for name, build in ARCHITECTURES.items():
        size = next((line.strip() for line in (build.__doc__ or "").splitlines() if " parameters, " in line), "")
        data = {"kind": "architecture", "ready": problem is None, "problem": problem, "size": size}
        facts = (size.removesuffix("."), *([problem] if problem else []))
        listed.append(Listed(name, describe(build), facts, data, problem))
    return listed


def _trained(name: str) -> Listed:
    data: dict[str, Any] = {"kind": "trained", "ready": True, "problem": None}
    try:
        path = model_folder.find(name)
        classifier = EmotionClassifier.load(name)
        alone, batched = _seconds_per_face(classifier)
    except FerkitError as problem:
        said = str(problem)
        return Listed(
            name, "A trained model that cannot be used.", (said,), data | {"ready": False, "problem": said}, said
        )
    card, takes = classifier.card, classifier.face_input
    measured = card.get("metrics", {})
    file = path / (model_folder.serving_file(card) or model_folder.ONNX_FILE) if path.is_dir() else path
    data |= {
        "classes": list(classifier.classes),
        "takes": [takes.height, takes.width, takes.channels],
        "size_mb": round(file.stat().st_size / 1e6, 2) if file.is_file() else None,
        "parameters": card.get("parameters"),
        "multiply_adds": card.get("multiply_adds"),
        "licence": card.get("licence"),
        "data": model_folder.trained_on(card).get("source"),
        "split": measured.get("split"),
        "accuracy": measured.get("accuracy"),
        "ms_per_face": round(1e3 * alone, 3),
        "faces_per_second": round(1 / batched, 1),
    }
    facts = (
        ", ".join([f"takes {takes.height}x{takes.width}x{takes.channels}", *_size_of(data)]),
        f"{milliseconds(alone)} for one face, {1 / batched:,.0f} faces/s in batches of {_BATCH} on this machine",
        f"trained on {data['data'] or 'unknown data'}, licence: {data['licence'] or 'not stated in its card'}",
    )
    return Listed(name, _accuracy(measured), facts, data)


def _seconds_per_face(classifier: EmotionClassifier) -> tuple[float, float]:
    """One alone, and in batches. What is on the face makes no difference."""
    takes = classifier.face_input
    faces = np.zeros((_BATCH, takes.height, takes.width, takes.channels), np.uint8)
    alone = median_seconds(lambda: classifier.predict_proba(faces[:1]), runs=15)
    return alone, median_seconds(lambda: classifier.predict_proba(faces), runs=5) / _BATCH


def _accuracy(measured: Mapping[str, Any]) -> str:
    if "accuracy" not in measured:
        return "A trained model without metrics in its card."
    said = f"Accuracy {measured['accuracy']:.1%} on {measured.get('split', 'its held-out faces')}"
    if named := TRUTHS.get(str(measured.get("truth"))):
        said += f" ({named.replace('labels', 'label')})"
    low, high = measured.get("accuracy_ci95", (None, None))
    if low is not None:
        said += f", 95% CI {low:.1%} to {high:.1%}"
    return f"{said}, before it was exported" if measured.get("note") == BEFORE_EXPORT else said


def _size_of(data: Mapping[str, Any]) -> Iterator[str]:
    if data["size_mb"] is not None:
        yield f"{data['size_mb']:.1f} MB"
    if data["parameters"] is not None:
        yield f"{data['parameters']:,} parameters"
    if data["multiply_adds"] is not None:
        yield f"{data['multiply_adds'] / 1e6:.1f} M multiply-adds"
