"""Data sets of faces: readers for the forms they come in, splits, duplicates, votes."""

from ferkit.datasets.loading import load_dataset
from ferkit.datasets.readers import READERS
from ferkit.datasets.records import Broken, Dataset, FaceSet, Findings, concatenate
from ferkit.datasets.splits import SPLITS

__all__ = ["READERS", "SPLITS", "Broken", "Dataset", "FaceSet", "Findings", "concatenate", "load_dataset"]
