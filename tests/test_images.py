import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ferkit.errors import ImageError
from ferkit.images import read_image
from ferkit.sources import expand_sources, name_of


def picture(width=40, height=30) -> PIL.Image.Image:
    """Red rises to the right, green downwards: every turn and mirroring shows."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 60)], axis=2)
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def encoded(image: PIL.Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        pytest.param("PNG", {}, 0, id="png"),
        pytest.param("BMP", {}, 0, id="bmp"),
        pytest.param("TIFF", {}, 0, id="tiff"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, 0, id="tiff lzw"),
        pytest.param("WEBP", {"lossless": True}, 0, id="webp"),
        pytest.param("JPEG", {"quality": 95, "subsampling": 0}, 6, id="jpeg"),
        pytest.param("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8, id="avif"),
        pytest.param("GIF", {}, 40, id="gif"),
    ],
)
def test_formats(form, options, tolerance):
    image = picture()
    read = read_image(encoded(image, form, **options))
    assert (read.dtype, read.shape) == (np.uint8, (30, 40, 3))
    assert np.abs(read.astype(int) - np.asarray(image)).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = picture()
    # What a camera held so would store: the inverse of the turn that EXIF asks for.
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(PIL.Image.Transpose(inverse[orientation])) if orientation > 1 else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_image(encoded(stored, "PNG", exif=exif)), np.asarray(upright))


def test_sixteen_bits_are_scaled():
    deep = PIL.Image.fromarray(np.array([[0, 257, 65535, 32896]], np.uint16))
    assert read_image(encoded(deep, "PNG"))[0, :, 0].tolist() == [0, 1, 255, 128]
    assert read_image(encoded(deep, "TIFF"))[0, :, 0].tolist() == [0, 1, 255, 128]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(PIL.Image.new("L", (2, 2), 77), (77, 77, 77), id="gray"),
        pytest.param(PIL.Image.new("1", (2, 2), 1), (255, 255, 255), id="one bit"),
        pytest.param(PIL.Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (255, 255, 255), id="transparent is white"),
        pytest.param(PIL.Image.new("RGBA", (2, 2), (255, 0, 0, 255)), (255, 0, 0), id="opaque"),
        pytest.param(PIL.Image.new("RGBA", (2, 2), (0, 0, 0, 128)), (127, 127, 127), id="half transparent"),
        pytest.param(PIL.Image.new("LA", (2, 2), (0, 0)), (255, 255, 255), id="gray with alpha"),
        pytest.param(PIL.Image.new("P", (2, 2), 0), (0, 0, 0), id="palette"),
        pytest.param(PIL.Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0), id="cmyk"),
        pytest.param(PIL.Image.new("F", (2, 2), 0.5), (128, 128, 128), id="float"),
    ],
)
def test_modes(image, expected):
    assert tuple(read_image(image)[0, 0]) == expected


def test_cmyk_jpeg():
    read = read_image(encoded(PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert read[8, 8, 0] > 240
    assert read[8, 8, 1:].max() < 20


def test_first_frame_of_an_animation():
    frames = [PIL.Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(read_image(animation)[0, 0]) == (255, 0, 0)


def test_every_kind_of_source_reads_the_same(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    data = encoded(picture(), "PNG")
    path.write_bytes(data)
    expected = np.asarray(picture())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with path.open("rb") as file:
        for source in (str(path), path, data, bytearray(data), io.BytesIO(data), file, picture(), expected, "-"):
            assert np.array_equal(read_image(source), expected), name_of(source)
        assert not file.closed


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(np.full((2, 3), 7, np.uint8), 7, id="gray"),
        pytest.param(np.full((2, 3, 1), 7, np.uint8), 7, id="gray with an axis"),
        pytest.param(np.full((2, 3, 4), 255, np.uint8), 255, id="rgba"),
        pytest.param(np.full((2, 3, 3), 1.0), 255, id="float64"),
        pytest.param(np.full((2, 3), 0.5, np.float16), 128, id="float16"),
        pytest.param(np.full((4, 6, 3), 9, np.uint8)[::2, ::-2], 9, id="strided"),
    ],
)
def test_arrays(array, expected):
    read = read_image(array)
    assert (read.dtype, read.shape) == (np.uint8, (2, 3, 3))
    assert read.flags.c_contiguous
    assert (read == expected).all()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(np.zeros((0, 5, 3), np.uint8), "Received: array of uint8", id="no rows"),
        pytest.param(np.zeros((5, 5, 2), np.uint8), "Received", id="two channels"),
        pytest.param(np.zeros((1, 5, 5, 3), np.uint8), "Received", id="a batch"),
        pytest.param(np.zeros((5, 5, 3), np.int64), "int64", id="int64"),
        pytest.param(np.full((5, 5), 255.0), "255", id="float to 255"),
        pytest.param(np.full((5, 5), -0.1), "-0.1", id="negative float"),
        pytest.param(np.full((5, 5), np.nan), "nan", id="NaN"),
        pytest.param(np.full((5, 5), np.inf), "inf", id="infinite"),
        pytest.param(np.array(["a"]), "Received", id="letters"),
        pytest.param(PIL.Image.new("RGB", (0, 5)), "at least one", id="empty PIL image"),
        pytest.param(b"", "not a picture", id="no bytes"),
        pytest.param(b"hello, I am text", "not a picture", id="text"),
        pytest.param(b"%PDF-1.4", "not a picture", id="pdf"),
        pytest.param(encoded(picture(200, 200), "JPEG")[:-900], "cut off", id="truncated jpeg"),
        pytest.param(encoded(picture(200, 200), "PNG")[:-200], "cut off", id="truncated png"),
        pytest.param(io.StringIO("text"), "mode 'rb'", id="text file"),
        pytest.param(42, "Received: int", id="number"),
        pytest.param(None, "Received: NoneType", id="None"),
        pytest.param("no/such.jpg", "no folder no", id="missing folder"),
        pytest.param("a\0b.jpg", "Cannot read", id="null in the path"),
        pytest.param("nothing*.jpg", "No picture matches", id="glob without match"),
        pytest.param(png_header(50_000, 50_000), "pixels", id="bomb"),
        pytest.param(png_header(1, 300_000_000), "pixels", id="thin bomb"),
    ],
)
def test_what_cannot_be_read_says_so_in_a_line(source, words):
    with pytest.raises(ImageError, match=words) as caught:
        read_image(source)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_memory_grows():
    tracemalloc.start()
    with pytest.raises(ImageError):
        read_image(png_header(50_000, 50_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_missing_file_suggests_near_names(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ImageError, match=r"Did you mean .*photo\.jpg\?"):
        read_image(tmp_path / "phto.jpg")


def test_folders_are_no_pictures(tmp_path):
    with pytest.raises(ImageError, match="holds no pictures"):
        read_image(tmp_path)
    picture().save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"such as .*a\.png"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow on damaged metadata
@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]),
    edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=12),
    keep=st.integers(0, 5000),
)
def test_damaged_files_read_or_say_so(form, edits, keep):
    data = bytearray(encoded(picture(), form)[: keep + 1])
    for place, value in edits:
        data[place % len(data)] = value
    try:
        read = read_image(bytes(data))
    except ImageError:
        return
    assert read.ndim == 3
    assert read.dtype == np.uint8


any_array = hnp.arrays(
    dtype=st.one_of(hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes()),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6),
)


@settings(max_examples=200, deadline=None)
@given(any_array)
def test_any_array_reads_or_says_so(array):
    try:
        read = read_image(array)
    except ImageError:
        return
    assert read.shape == (*array.shape[:2], 3)


def test_expanding_folders_globs_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/10.jpg", "b/2.JPG", "b/notes.txt", "b/c/1.png", "me[1].jpg", "a.webp"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    below = ["b/2.JPG", "b/10.jpg", "b/c/1.png"]
    assert list(expand_sources(["b"])) == below
    assert list(expand_sources(["b/[0-9]*", "a.*"])) == ["b/2.JPG", "b/10.jpg", "a.webp"]
    assert list(expand_sources(["?"])) == below
    assert list(expand_sources(["**/*.png"])) == ["b/c/1.png"]
    assert list(expand_sources(["me[1].jpg", "-", "gone.jpg", "*.xyz"])) == ["me[1].jpg", "-", "gone.jpg", "*.xyz"]
    (tmp_path / "empty").mkdir()
    assert list(expand_sources(["empty", "a.webp"])) == ["empty", "a.webp"]
