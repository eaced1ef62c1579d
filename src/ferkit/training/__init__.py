"""Training: from a data set and a recipe to a model folder, resumable to the bit."""

from ferkit.training.running import Run, train

__all__ = ["Run", "train"]
