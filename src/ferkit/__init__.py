"""ferkit: facial emotion recognition with Keras 3.

Train on labelled faces, know how good the model is, recognise every face. Importing this does nothing but name things;
each name loads its module on first use, so `import ferkit` needs neither Keras nor OpenCV.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferkit import batch as batch
    from ferkit import explain as explain
    from ferkit import models as models
    from ferkit.classifier import EmotionClassifier as EmotionClassifier
    from ferkit.datasets import load_dataset as load_dataset
    from ferkit.datasets.records import Dataset as Dataset
    from ferkit.datasets.records import FaceSet as FaceSet
    from ferkit.ensemble import Ensemble as Ensemble
    from ferkit.errors import FerkitError as FerkitError
    from ferkit.evaluation import Report as Report
    from ferkit.evaluation import evaluate as evaluate
    from ferkit.explain import Explanation as Explanation
    from ferkit.recipes import TrainConfig as TrainConfig
    from ferkit.recognizer import EmotionRecognizer as EmotionRecognizer
    from ferkit.results import Box as Box
    from ferkit.results import Face as Face
    from ferkit.results import FaceEmotion as FaceEmotion
    from ferkit.results import PictureResult as PictureResult
    from ferkit.results import Results as Results
    from ferkit.samples import sample_picture as sample_picture
    from ferkit.training import Run as Run
    from ferkit.training import train as train
    from ferkit.video.analysis import analyze_video as analyze_video
    from ferkit.video.timeline import Timeline as Timeline

__version__ = "0.1.0"

# Public name -> module it lives in.
_PLACES = {
    "Box": "results",
    "Dataset": "datasets.records",
    "EmotionClassifier": "classifier",
    "EmotionRecognizer": "recognizer",
    "Ensemble": "ensemble",
    "Explanation": "explain",
    "Face": "results",
    "FaceEmotion": "results",
    "FaceSet": "datasets.records",
    "FerkitError": "errors",
    "PictureResult": "results",
    "Report": "evaluation",
    "Results": "results",
    "Run": "training",
    "Timeline": "video.timeline",
    "TrainConfig": "recipes",
    "analyze_video": "video.analysis",
    "batch": "",
    "evaluate": "evaluation",
    "explain": "",
    "load_dataset": "datasets",
    "models": "",
    "sample_picture": "samples",
    "train": "training",
}

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ferkit' has no attribute {name!r}")
    if not _PLACES[name]:
        return importlib.import_module(f"ferkit.{name}")
    value = getattr(importlib.import_module(f"ferkit.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
