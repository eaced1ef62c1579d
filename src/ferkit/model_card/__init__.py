"""The card of a model for people: `README.md` in the model folder, made from `card.json` alone."""

from ferkit.model_card.page import NOTICE, README_FILE, text_of, write

__all__ = ["NOTICE", "README_FILE", "text_of", "write"]
