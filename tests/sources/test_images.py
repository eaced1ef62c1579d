"""Decoding: every format, mode and orientation to the same RGB uint8."""

import io
import sys
import tracemalloc

import cv2
import numpy as np
import PIL.Image
import pytest

from ferkit.errors import ImageError
from ferkit.sources.images import MAX_PIXELS, read_image
from pictures import encoded, picture, png_header


@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        pytest.param("PNG", {}, 0, id="png"),
        pytest.param("BMP", {}, 0, id="bmp"),
        pytest.param("PPM", {}, 0, id="ppm"),
        pytest.param("TIFF", {}, 0, id="tiff"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, 0, id="tiff lzw"),
        pytest.param("TIFF", {"compression": "tiff_deflate", "big_tiff": True}, 0, id="big tiff"),
        pytest.param("TIFF", {"compression": "jpeg", "quality": 95}, 12, id="tiff jpeg"),
        pytest.param("WEBP", {"lossless": True}, 0, id="webp"),
        pytest.param("WEBP", {"quality": 95}, 12, id="webp lossy"),
        pytest.param("JPEG", {"quality": 95, "subsampling": 0}, 6, id="jpeg"),
        pytest.param("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8, id="avif"),
        pytest.param("GIF", {}, 40, id="gif"),
    ],
)
def test_formats(form, options, tolerance):
    image = picture()
    read = read_image(encoded(image, form, **options))
    assert (read.dtype, read.shape) == (np.uint8, (30, 40, 3))
    assert read.flags.c_contiguous
    assert read.flags.writeable
    assert np.abs(read.astype(int) - np.asarray(image)).max() <= tolerance


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        pytest.param("RGB", {"quality": 80}, id="4:2:0"),
        pytest.param("RGB", {"quality": 80, "subsampling": "4:2:2"}, id="4:2:2"),
        pytest.param("RGB", {"progressive": True}, id="progressive"),
        pytest.param("RGB", {"optimize": True, "restart_marker_rows": 1}, id="restart markers"),
        pytest.param("RGB", {"keep_rgb": True}, id="stored as RGB"),
        pytest.param("L", {"quality": 80}, id="gray"),
    ],
)
@pytest.mark.parametrize("size", [(333, 251), (8, 8), (1, 1), (1, 700)], ids=str)
def test_jpeg_pixels_are_those_of_pillow(mode, options, size):
    """Which decodes the same with more copies."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 7 + 1, size[0] // 7 + 1, 3), dtype=np.uint8)
    data = encoded(
        PIL.Image.fromarray(noise).resize(size, PIL.Image.Resampling.BICUBIC).convert(mode), "JPEG", **options
    )
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(read_image(data), np.asarray(image.convert("RGB")))


def stored(orientation: int) -> PIL.Image.Image:
    """What a camera held so would store: the inverse of the turn that EXIF asks for."""
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    return picture().transpose(PIL.Image.Transpose(inverse[orientation])) if orientation > 1 else picture()


def exif_of(orientation: object) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        pytest.param("PNG", {}, 0, id="png"),
        pytest.param("JPEG", {"quality": 95, "subsampling": 0}, 6, id="jpeg"),
        pytest.param(
            "MPO", {"quality": 95, "subsampling": 0, "save_all": True, "append_images": [picture()]}, 6, id="mpo"
        ),
        pytest.param("WEBP", {"lossless": True}, 0, id="webp"),
        pytest.param("TIFF", {}, 0, id="tiff"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, 0, id="tiff lzw"),
        pytest.param("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8, id="avif"),
    ],
)
def test_exif_orientation_is_applied(orientation, form, options, tolerance):
    read = read_image(encoded(stored(orientation), form, exif=exif_of(orientation), **options))
    assert read.shape == (30, 40, 3)
    assert read.flags.c_contiguous
    assert np.abs(read.astype(int) - np.asarray(picture())).max() <= tolerance


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_of_other_modes_and_of_open_images(orientation):
    upright = np.asarray(picture().convert("L"))
    data = encoded(stored(orientation).convert("L"), "PNG", exif=exif_of(orientation))
    assert np.array_equal(read_image(data)[..., 0], upright)
    with PIL.Image.open(io.BytesIO(data)) as image:
        for _ in range(2):  # the image of the caller is not turned by it
            assert np.array_equal(read_image(image)[..., 0], upright)
    deep = upright.astype(np.uint16) * 257
    turned = np.asarray(PIL.Image.fromarray(deep).transpose(PIL.Image.Transpose({6: 2, 8: 4}.get(orientation, 3))))
    if orientation in (3, 6, 8):
        data = encoded(PIL.Image.fromarray(turned), "PNG", exif=exif_of(orientation))
        assert np.array_equal(read_image(data)[..., 0], upright)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_bits_of_a_sensor_in_sixteen_are_stretched(bits):
    notes: list[str] = []
    deep = (np.asarray(picture().convert("L")).astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    read = read_image(encoded(PIL.Image.fromarray(deep), "PNG"), notes)
    assert np.abs(read[..., 0].astype(int) - np.asarray(picture().convert("L"))).max() <= 1
    assert [f"hold {bits} (" in note for note in notes] == ([True] if bits < 16 else [])


@pytest.mark.parametrize("form", ["png", "tif"])
@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_bits_of_a_sensor_in_colour_are_stretched(form, bits, channels):
    notes: list[str] = []
    flat = np.asarray(picture().convert("RGB"))
    deep = flat.astype(np.uint32) * ((1 << bits) - 1) // 255
    if channels == 4:
        deep = np.concatenate([deep, np.full((*deep.shape[:2], 1), 65535)], axis=2)
    done, data = cv2.imencode(f".{form}", deep.astype(np.uint16)[..., [2, 1, 0, 3][:channels]])
    assert done
    assert np.abs(read_image(data.tobytes(), notes).astype(int) - flat).max() <= 1
    assert len(notes) == (bits < 16)


def test_a_progressive_jpeg_that_lacks_its_end_is_read_and_one_that_lacks_most_is_refused():
    notes: list[str] = []
    data = encoded(picture().resize((160, 160)), "JPEG", quality=90, progressive=True)
    near = np.abs(read_image(data[:-10], notes).astype(int) - read_image(data))
    assert near.mean() < 1
    assert len(notes) == 1
    with pytest.raises(ImageError, match="cut off"):
        read_image(data[: len(data) // 3])


@pytest.mark.parametrize("lacks", [0, 2, 10, 40])
def test_a_jpeg_that_lacks_its_end_is_read_with_a_note(lacks):
    notes: list[str] = []
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    data = encoded(PIL.Image.fromarray(noise), "JPEG", quality=80)
    read = read_image(data[: len(data) - lacks], notes)
    assert np.array_equal(read[:140], read_image(data)[:140])  # chroma is smoothed across the last rows of blocks
    assert len(notes) == (lacks > 0)


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM", "TIFF", "GIF"])
def test_other_forms_that_lack_their_end_are_read_with_a_note_and_those_that_lack_half_are_refused(form):
    notes: list[str] = []
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    data = encoded(PIL.Image.fromarray(noise), form, **({"interlace": 0} if form == "GIF" else {}))
    whole, cut = read_image(data), read_image(data[: len(data) * 97 // 100], notes)
    assert (whole == cut).all(axis=(1, 2)).mean() > 0.9
    assert [note for note in notes if "lacks its end" in note]
    with pytest.raises(ImageError, match="cut off"):
        read_image(data[: len(data) // 2])


def test_an_interlaced_picture_that_lacks_its_end_is_refused():
    """Each of its rows may lack something."""
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 160), dtype=np.uint8))
    data = encoded(image, "GIF", interlace=1)
    with pytest.raises(ImageError, match="cut off"):
        read_image(data[: len(data) * 97 // 100])


@pytest.mark.parametrize("most", [1, 255, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_in_a_tiff_are_taken_by_their_range(most, channels, kind):
    notes: list[str] = []
    flat = np.asarray(picture().convert("L" if channels == 1 else "RGB"))
    floats = (flat / flat.max() * most).astype(kind)
    done, data = cv2.imencode(".tiff", floats[..., ::-1] if channels == 3 else floats)
    assert done
    read = read_image(data.tobytes(), notes)
    assert np.abs(read.astype(int) - np.reshape(flat * (255 / flat.max()), (30, 40, -1))).max() <= 1
    assert len(notes) == (most > 1)


def test_a_photo_in_heic_is_read_by_the_extra_and_named_without_it(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(stored(6).resize((60, 80))).save(file, exif=exif_of(6).tobytes(), quality=95)
    read, upright = read_image(file.getvalue()), np.asarray(picture().resize((80, 60)))
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).mean() < 9
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"a HEIC photo; install ferkit\[heic\], or convert it to JPEG"):
        read_image(file.getvalue())


def test_a_jpeg_that_lacks_half_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    data = encoded(PIL.Image.fromarray(noise), "JPEG", quality=80)
    with pytest.raises(ImageError, match="cut off"):
        read_image(data[: len(data) // 2])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [exif_of(0), exif_of(9), b"Exif\0\0nonsense"], ids=str)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow on damaged metadata
def test_damaged_exif_is_no_reason_to_refuse(form, exif):
    assert read_image(encoded(picture(), form, exif=exif)).shape == (30, 40, 3)


@pytest.mark.parametrize("form", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_scaled(form, channels):
    deep = np.repeat(np.array([[0, 257, 65535, 32896]], np.uint16)[..., None], channels, axis=2)
    if channels == 4:
        deep[..., 3] = 65535
    read = read_image(cv2.imencode(form, deep)[1].tobytes())
    assert (read == np.array([0, 1, 255, 128])[None, :, None]).all()


def test_sixteen_bits_in_the_other_order():
    deep = PIL.Image.fromarray(np.array([[0, 257, 65535, 32896]], ">u2"))
    assert read_image(deep)[0, :, 0].tolist() == [0, 1, 255, 128]
    assert read_image(b"P5 2 1 65535\n\x00\x00\xff\xff")[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(PIL.Image.new("L", (2, 2), 77), (77, 77, 77), id="gray"),
        pytest.param(PIL.Image.new("1", (2, 2), 1), (255, 255, 255), id="one bit"),
        pytest.param(PIL.Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (255, 255, 255), id="transparent is white"),
        pytest.param(PIL.Image.new("RGBA", (2, 2), (255, 0, 0, 255)), (255, 0, 0), id="opaque"),
        pytest.param(PIL.Image.new("RGBA", (2, 2), (0, 0, 0, 128)), (127, 127, 127), id="half transparent"),
        pytest.param(PIL.Image.new("RGBa", (2, 2), (0, 0, 0, 128)), (127, 127, 127), id="premultiplied"),
        pytest.param(PIL.Image.new("LA", (2, 2), (0, 0)), (255, 255, 255), id="gray with alpha"),
        pytest.param(PIL.Image.new("PA", (2, 2), (0, 0)), (255, 255, 255), id="palette with alpha"),
        pytest.param(PIL.Image.new("P", (2, 2), 0), (0, 0, 0), id="palette"),
        pytest.param(PIL.Image.new("RGBX", (2, 2), (1, 2, 3, 4)), (1, 2, 3), id="padded"),
        pytest.param(PIL.Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0), id="cmyk"),
        pytest.param(PIL.Image.new("YCbCr", (2, 2), (90, 128, 128)), (90, 90, 90), id="ycbcr"),
        pytest.param(PIL.Image.new("HSV", (2, 2), (0, 255, 255)), (255, 0, 0), id="hsv"),
        pytest.param(PIL.Image.new("F", (2, 2), 0.5), (128, 128, 128), id="float"),
        pytest.param(PIL.Image.new("I", (2, 2), 65535), (255, 255, 255), id="32 bits that hold 16"),
    ],
)
def test_modes(image, expected):
    assert tuple(read_image(image)[0, 0]) == expected


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "TIFF", "AVIF"])
def test_what_is_transparent_is_white(form):
    image = PIL.Image.new("RGBA", (8, 8), (200, 10, 20, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 8))
    read = read_image(encoded(image, form)).astype(int)
    assert (read[4, 1] == 255).all()
    assert np.abs(read[4, 6] - (200, 10, 20)).max() < 9


def test_transparent_gray_and_rgb_png():
    assert read_image(encoded(PIL.Image.new("L", (2, 2), 9), "PNG", transparency=9)).min() == 255
    assert read_image(encoded(PIL.Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))).min() == 255


def test_cmyk_jpeg():
    """Adobe stores CMYK inverted; the marker that says so may be missing, and browsers too take it for granted."""
    data = encoded(PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    read = read_image(data)
    assert read[8, 8, 0] > 240
    assert read[8, 8, 1:].max() < 20
    marker = data.index(b"\xff\xee")
    without = data[:marker] + data[marker + 2 + int.from_bytes(data[marker + 2 : marker + 4], "big") :]
    assert np.array_equal(read_image(without), read)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        pytest.param("GIF", {"duration": 100}, id="gif"),
        pytest.param("WEBP", {"lossless": True}, id="webp"),
        pytest.param("PNG", {}, id="png"),
        pytest.param("TIFF", {}, id="tiff pages"),
        pytest.param("AVIF", {"quality": 100}, id="avif"),
        pytest.param("MPO", {"quality": 95}, id="mpo"),
    ],
)
def test_first_frame_of_an_animation(form, options):
    frames = [PIL.Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    animation = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    with PIL.Image.open(io.BytesIO(animation)) as image:
        assert image.n_frames == 2
    notes: list[str] = []
    assert np.abs(read_image(animation, notes)[9, 9].astype(int) - (255, 0, 0)).max() < 9
    assert ["first was taken" in note for note in notes] == (
        [] if form == "MPO" else [True]
    )  # a second view of a camera


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(np.full((2, 3), 7, np.uint8), 7, id="gray"),
        pytest.param(np.full((2, 3, 1), 7, np.uint8), 7, id="gray with an axis"),
        pytest.param(np.full((2, 3, 4), 255, np.uint8), 255, id="rgba"),
        pytest.param(np.full((2, 3, 4), [0, 0, 0, 128], np.uint8), 127, id="half transparent"),
        pytest.param(np.full((2, 3, 3), 1.0), 255, id="float64"),
        pytest.param(np.full((2, 3), 0.5, np.float16), 128, id="float16"),
        pytest.param(np.full((2, 3, 3), 32896, np.uint16), 128, id="uint16"),
        pytest.param(np.full((2, 3), [0, 257, 65535], np.uint16), [[[0], [1], [255]]], id="gray uint16"),
        pytest.param(np.full((2, 3), 0.5, ">f4"), 128, id="big endian"),
        pytest.param(np.full((2, 3), 0.5, np.longdouble), 128, id="longdouble"),
        pytest.param(np.full((2, 3, 4), [1, 1, 1, 0.5]), 255, id="float rgba"),
        pytest.param(np.full((2, 3), 1 + 1e-6), 255, id="a hair above 1, as resizing leaves it"),
        pytest.param(np.full((2, 3), -1e-6), 0, id="a hair below 0"),
        pytest.param(np.full((4, 6, 3), 9, np.uint8)[::2, ::-2], 9, id="strided"),
        pytest.param(np.full((3, 2, 4), 255, np.uint8).transpose(1, 0, 2)[..., ::-1], 255, id="transposed"),
        pytest.param(np.asfortranarray(np.full((2, 3, 3), 9, np.uint8)), 9, id="Fortran order"),
        pytest.param(np.broadcast_to(np.uint8(9), (2, 3, 3)), 9, id="broadcast"),
        pytest.param(np.full((2, 3), 7, np.uint8).view(np.matrix), 7, id="matrix"),
        pytest.param(np.ma.masked_equal(np.full((2, 3), 7, np.uint8), 7), 7, id="masked"),
    ],
)
def test_arrays(array, expected):
    before = array.tobytes()
    read = read_image(array)
    assert type(read) is np.ndarray
    assert (read.dtype, read.shape) == (np.uint8, (2, 3, 3))
    assert read.flags.c_contiguous
    assert (read == expected).all()
    assert array.tobytes() == before


def test_an_rgb_array_is_not_copied():
    frame = np.zeros((4, 4, 3), np.uint8)
    assert np.shares_memory(read_image(frame), frame)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(np.zeros((0, 5, 3), np.uint8), "Received: array of uint8", id="no rows"),
        pytest.param(np.zeros((5, 5, 0), np.uint8), "Received: array of uint8", id="no channels"),
        pytest.param(np.zeros((5, 5, 2), np.uint8), "Received", id="two channels"),
        pytest.param(np.zeros((3, 5, 5), np.uint8), r"array\.transpose\(1, 2, 0\)", id="channels first"),
        pytest.param(np.zeros((1, 5, 5, 3), np.uint8), "Received", id="a batch"),
        pytest.param(np.zeros(5, np.uint8), "Received", id="one axis"),
        pytest.param(np.array(5, np.uint8), "Received", id="no axis"),
        pytest.param(np.zeros((5, 5, 3), np.int64), r'int64 .* array.astype\("uint8"\)', id="int64"),
        pytest.param(np.full((5, 5, 3), 300, np.int64), r"int64 \(5, 5, 3\)\.$", id="int64 beyond"),
        pytest.param(np.zeros((9, 5, 6), np.uint8), r"array\[\.\.\., None\]", id="many gray ones"),
        pytest.param(np.zeros((5, 5, 3), bool), "bool", id="bool"),
        pytest.param(np.zeros((5, 5, 3), complex), "complex128", id="complex"),
        pytest.param(np.zeros((5, 5), object), "object", id="objects"),
        pytest.param(np.zeros((5, 5), [("r", "u1"), ("g", "u1")]), "Received", id="records"),
        pytest.param(np.full((5, 5), 255.0), r"255 to 255\. Divide them by 255\.", id="float to 255"),
        pytest.param(np.full((5, 5), 300.0), r"300 to 300\. Divide them by 65535\.", id="float beyond"),
        pytest.param(np.full((5, 5), 1.003), "1.003", id="float that rounds to 256"),
        pytest.param(np.full((5, 5), -0.003), "-0.003", id="negative float"),
        pytest.param(np.linspace(-1, 1, 9)[None], r"-1 to 1\. Add 1 and divide them by 2\.", id="-1 to 1"),
        pytest.param(np.full((5, 5), -3.0), r"Scale them to 0 to 1\.", id="standardized"),
        pytest.param(np.full((5, 5), np.nan), r"nan to nan\. Replace NaN", id="NaN"),
        pytest.param(np.array([[0, np.nan, 1]], np.float16), "nan", id="one NaN"),
        pytest.param(np.full((5, 5), np.inf), "inf", id="infinite"),
        pytest.param(np.array(["a"]), "Received", id="letters"),
        pytest.param(np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "20000x20000", id="too many pixels"),
        pytest.param(PIL.Image.new("RGB", (0, 5)), "at least one", id="empty PIL image"),
        pytest.param(PIL.Image.new("I", (2, 2), 70_000), "70000 to 70000", id="more than 16 bits"),
        pytest.param(PIL.Image.new("I", (2, 2), -1), "-1 to -1", id="negative"),
        pytest.param(PIL.Image.new("F", (2, 2), 3.0), "with 3 to 3", id="light beyond white"),
        pytest.param(b"hello, I am text", "not a picture that can be decoded", id="text"),
        pytest.param(b"%PDF-1.4", "it is a PDF", id="pdf"),
        pytest.param(b"  \n<!doctype html><html>", "it is a web page", id="web page"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1", "git lfs pull", id="git lfs"),
        pytest.param(b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", id="jpeg xl"),
        pytest.param(b"II*\0\x08\0\0\0", "a TIFF that is cut off", id="tiff without its tags"),
        pytest.param(b"\0\0\0\x18ftypisom\0\0\0\0", "it is a video", id="mp4"),
        pytest.param(encoded(picture(), "ICO"), "it is an icon", id="ico"),
        pytest.param(encoded(picture(200, 200), "JPEG")[:-900], "cut off", id="truncated jpeg"),
        pytest.param(encoded(picture(200, 200), "JPEG", progressive=True)[:-900], "cut off", id="progressive"),
        pytest.param(encoded(picture(200, 200), "PNG")[:-200], "cut off", id="truncated png"),
        pytest.param(png_header(50_000, 50_000), "pixels", id="bomb"),
        pytest.param(png_header(1, 300_000_000), "pixels", id="thin bomb"),
    ],
)
def test_what_cannot_be_read_says_so_in_a_line(source, words):
    with pytest.raises(ImageError, match=words) as caught:
        read_image(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fer.csv", "FER.CSV.GZ"])
def test_a_table_is_for_the_commands_that_read_data_sets(name, tmp_path):
    (tmp_path / name).write_bytes(b"emotion,pixels,Usage\n0,1 2 3 4,Training\n")
    with pytest.raises(ImageError, match=r"it is a table.*ferkit data, ferkit evaluate"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("problem", [MemoryError(), OSError("decoder error -9")], ids=["python", "pillow"])
def test_no_memory_is_an_error_of_that_picture(problem, monkeypatch):
    def full(*_: object) -> None:
        raise problem

    monkeypatch.setattr("ferkit.sources.images._decode", full)
    with pytest.raises(ImageError, match="do not fit into memory"):
        read_image(encoded(picture(), "PNG"))


def test_a_picture_of_108_megapixels():
    """As telephones take them."""
    data = encoded(PIL.Image.new("L", (12_000, 9_000), 200), "PNG")
    tracemalloc.start()
    with pytest.warns(PIL.Image.DecompressionBombWarning):
        read = read_image(data)
    assert read.shape == (9_000, 12_000, 3)
    assert (read[::1000, ::1000] == 200).all()
    assert tracemalloc.get_traced_memory()[1] < 1.3 * read.nbytes  # what NumPy and Python hold; not Pillow
    tracemalloc.stop()


def test_an_array_of_108_megapixels():
    wide = np.broadcast_to(np.array([10, 20, 30, 255], np.uint8), (9_000, 12_000, 4))
    tracemalloc.start()
    read = read_image(wide[..., :3])
    assert read.shape == (9_000, 12_000, 3)
    assert tuple(read[-1, -1]) == (10, 20, 30)
    assert tracemalloc.get_traced_memory()[1] < 1.1 * read.nbytes
    tracemalloc.stop()
    assert wide.shape[0] * wide.shape[1] < MAX_PIXELS
