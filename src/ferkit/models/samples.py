"""A picture to try things with; `README.md` beside it says where it comes from."""

from importlib import resources
from pathlib import Path


def sample_picture() -> Path:
    """Path of a portrait with one smiling face, 512x512 pixels, that comes with the package.

    >>> sample_picture().name
    'astronaut.jpg'
    """
    return Path(str(resources.files("ferkit.models"))) / "packaged" / "astronaut.jpg"
