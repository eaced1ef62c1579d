"""What a notebook shows: everything escaped, nothing that runs, small enough for the file."""

import base64
import io
import re

import numpy as np
import PIL.Image
import pytest

import pages
from ferkit.results import PictureResult, Results
from pages import Page
from recognition import emotion

HOSTILE = f"{pages.HOSTILE}\u202e\0\n"


def picture(width=640, height=480, faces=(), source="a.jpg", pixels=True):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8) if pixels else None
    return PictureResult(source, width, height, tuple(faces), pixels=noise)


def pictures_in(html):
    data = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [PIL.Image.open(io.BytesIO(base64.b64decode(one))) for one in data]


def test_a_picture_shows_itself_with_a_bar_per_class():
    page = Page(html := picture(faces=[emotion("happy", 0.7), emotion("sad", 0.4)])._repr_html_())
    shown, *thumbnails = pictures_in(html)
    assert shown.size == (640, 480)
    assert len(thumbnails) == 2
    assert len(page.all("tr")) == 3
    assert "a.jpg · 640 \N{MULTIPLICATION SIGN} 480 · 2 faces" in page.text
    assert "happy 70%" in page.text
    assert "background:#E69F00;width:70.0%" in html, "the bar has the colour and the length of the probability"


def test_nothing_from_outside_becomes_markup():
    classes = (HOSTILE, "b&b")
    face = emotion(HOSTILE, 0.7, classes=classes)
    failed = PictureResult.failed(HOSTILE, HOSTILE)
    one = picture(faces=[face], source=HOSTILE)
    for shown in (one, failed, Results([one, failed, picture(source=HOSTILE)])):
        page = Page(shown._repr_html_())
        page.check_harmless()
        # What notebooks keep of strangers' files.
        assert not {"style", "meta", "html"} & {tag for tag, _ in page.tags}
        assert not [attributes for _, attributes in page.tags if "class" in attributes]
        assert "<script>alert(1)</script>" in page.text + str(page.tags)
        assert "\0" not in page.text


@pytest.mark.parametrize(
    ("result", "said"),
    [
        pytest.param(picture(), "no face", id="no face"),
        pytest.param(picture(pixels=False, faces=[emotion()]), "1 face", id="no pixels"),
        pytest.param(PictureResult.failed("b.jpg", "File not found: b.jpg."), "File not found", id="error"),
        pytest.param(picture(1, 1, [emotion(box=(0, 0, 1, 1))]), "1 \N{MULTIPLICATION SIGN} 1", id="one pixel"),
        pytest.param(picture(3000, 5, [emotion(box=(0, 0, 5, 5))]), "3,000 \N{MULTIPLICATION SIGN} 5", id="a strip"),
        pytest.param(picture(source="é" * 5000), "…éé", id="long name"),
    ],
)
def test_odd_results(result, said):
    html = result._repr_html_()
    assert said in Page(html).text
    assert len(pictures_in(html)) == (result.pixels is not None) * (1 + len(result))


def test_a_large_photo_does_not_fill_the_notebook():
    faces = [emotion("sad", box=(250 * i, 100, 250 * i + 200, 350)) for i in range(16)]
    pixels = np.asarray(PIL.Image.effect_noise((4000, 3000), 60).convert("RGB"))
    html = PictureResult("photo.jpg", 4000, 3000, tuple(faces), pixels=pixels)._repr_html_()
    assert max(pictures_in(html)[0].size) == 960
    assert len(html) < 1_000_000


def test_a_crowd_is_cut_and_says_so():
    face = emotion("happy")
    assert "70 more" in Page(picture(faces=[face] * 100)._repr_html_()).text
    page = Page(Results([picture(pixels=False, faces=[face] * 40), *[picture(pixels=False)] * 5000])._repr_html_())
    assert len(page.all("tr")) == 31
    assert "5,001 pictures · 40 faces" in page.text
    assert "5,010 more" in page.text


def test_a_list_says_what_became_of_every_picture():
    results = Results(
        [
            picture(faces=[emotion("sad"), emotion("fear")]),
            picture(source="empty.png"),
            PictureResult.failed("x", "gone"),
        ]
    )
    page = Page(results._repr_html_())
    assert "3 pictures · 2 faces" in page.text
    assert "1 could not be read" in page.text
    assert page.text.count("a.jpg") == 1, "the name stands at the first of its faces"
    assert "empty.png" in page.text
    assert "no face" in page.text
    assert "gone" in page.text
    assert "0 pictures" in Page(Results()._repr_html_()).text
