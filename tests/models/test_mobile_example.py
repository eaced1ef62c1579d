"""The Kotlin of docs/how-to/mobile.md compiles, and cuts the face that the Python beside it cuts.

Needs `kotlinc` and `java`; Android's classes are stood in for.
"""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ferkit.models import sample_picture

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "mobile.md"
STAND_INS = {
    "Bitmap": """
        package android.graphics
        class Bitmap(val width: Int, val height: Int) {
            fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {}
        }
    """,
    "Interpreter": "package org.tensorflow.lite\nclass Interpreter { fun run(input: Any, output: Any) {} }",
    "Main": """
        import java.io.File
        import javax.imageio.ImageIO

        fun main(words: Array<String>) {
            val picture = ImageIO.read(File(words[0]))
            val pixels = IntArray(picture.width * picture.height)
            picture.getRGB(0, 0, picture.width, picture.height, pixels, 0, picture.width)
            val face = cutFace(pixels, picture.width, picture.height, words.drop(2).map { it.toDouble() })
            val bytes = ByteArray(face.remaining())
            face.get(bytes)
            File(words[1]).writeBytes(bytes)
        }
    """,
}


def code(language: str) -> str:
    """The first block of a language on the page."""
    found = re.search(rf"^```{language}\n(.+?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_kotlin_cuts_as_python_does(tmp_path):
    kotlin, java = shutil.which("kotlinc"), shutil.which("java")
    if kotlin is None or java is None:
        pytest.skip("no Kotlin compiler is installed")
    for name, text in {"Faces": code("kotlin"), **STAND_INS}.items():
        (tmp_path / f"{name}.kt").write_text(text)
    files = sorted(map(str, tmp_path.glob("*.kt")))
    subprocess.run([kotlin, *files, "-include-runtime", "-d", tmp_path / "faces.jar"], check=True)
    picture = PIL.Image.open(sample_picture()).convert("RGB")
    picture.save(tmp_path / "photo.png")  # without loss, so that both see the same pixels

    python: dict = {}
    exec(code("python").partition("\ncard = ")[0].replace("from ai_edge_litert", "# "), python)  # noqa: S102
    for box in [(180, 62, 269, 174), (-40, 300, 260, 620), (200, 100, 230, 125)]:  # also outside, also enlarged
        words = [tmp_path / "photo.png", tmp_path / "face", *map(str, box)]
        subprocess.run([java, "-cp", tmp_path / "faces.jar", "MainKt", *words], check=True)
        cut = np.frombuffer((tmp_path / "face").read_bytes(), np.uint8).reshape(48, 48)
        expected = python["cut_face"](np.asarray(picture), box)
        # Sums in another order: now and then a half is rounded the other way.
        assert np.abs(cut.astype(int) - expected).max() <= 1
        assert (cut != expected).mean() < 0.01
