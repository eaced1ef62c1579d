"""Damaged, cut off and lying pictures: RGB uint8 or an `ImageError` of one line, and no memory for what is not there."""

import gzip
import io
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ferkit.errors import ImageError
from ferkit.sources.images import read_image
from pictures import bombs, chunk, encoded, floods, many_scans, picture, png_header

EXIF = PIL.Image.Exif()
EXIF[0x0112] = 6
EXIF[0x010F] = "maker"
# One whole file of every kind that decoders treat differently.
WHOLE = {
    "png": encoded(picture(), "PNG", exif=EXIF),
    "png palette": encoded(picture().convert("P"), "PNG", transparency=3),
    "png deep": encoded(PIL.Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), "PNG"),
    "jpeg": encoded(picture(), "JPEG", exif=EXIF),
    "jpeg progressive": encoded(picture(), "JPEG", progressive=True, restart_marker_rows=1),
    "jpeg gray": encoded(picture().convert("L"), "JPEG"),
    "jpeg cmyk": encoded(picture().convert("CMYK"), "JPEG"),
    "mpo": encoded(picture(), "MPO", save_all=True, append_images=[picture()]),
    "gif": encoded(picture(), "GIF", save_all=True, append_images=[picture()]),
    "bmp": encoded(picture(), "BMP"),
    "tiff": encoded(picture(), "TIFF", exif=EXIF),
    "tiff lzw": encoded(picture(), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encoded(picture(), "TIFF", compression="jpeg"),
    "webp": encoded(picture(), "WEBP", exif=EXIF),
    "webp lossless": encoded(picture().convert("RGBA"), "WEBP", lossless=True),
    "avif": encoded(picture(), "AVIF", exif=EXIF),
    "ppm": encoded(picture(), "PPM"),
}


def read_or_refuse(source: object) -> np.ndarray | None:
    """What comes back is a picture, or an error of one line; nothing else is let through."""
    try:
        read = read_image(source)
    except ImageError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "\n" not in refusal
        return None
    assert type(read) is np.ndarray
    assert (read.dtype, read.ndim, read.shape[2]) == (np.uint8, 3, 3)
    assert read.size
    assert read.flags.c_contiguous
    return read


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=12),
    in_header=st.booleans(),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_flipped_bits_and_missing_ends(kind, flips, in_header, keep):
    data = bytearray(WHOLE[kind])
    for place, bit in flips:
        data[int(place * min(len(data), 300 if in_header else len(data)))] ^= 1 << bit
    # Sizes up to our limit are decoded; those are for other tests, as they take their time.
    try:
        with PIL.Image.open(io.BytesIO(bytes(data))) as image:
            if image.width * image.height > 1_000_000:
                return
    except Exception:  # noqa: S110 - judged below
        pass
    read_or_refuse(bytes(data[: round(keep * len(data))]))


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_every_beginning_of_a_file(kind):
    data = WHOLE[kind]
    assert read_or_refuse(data) is not None
    for keep in range(0, len(data) - 1, max(1, len(data) // 60)):
        read_or_refuse(data[:keep])
    assert read_or_refuse(data[: len(data) // 3]) is None
    assert read_or_refuse(data + b"more" * 99) is not None


MARKS = [
    *(b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"P6 "),
    *(b"RIFF\0\0\0\0WEBP", b"\0\0\0\x1cftypavif", b"data:", b"<svg"),
]


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from(MARKS),
    rest=st.binary(max_size=300),
)
def test_any_bytes(start, rest):
    read_or_refuse(start + rest)


any_dtype = st.one_of(
    *(hnp.integer_dtypes(endianness=order) for order in "<>"),
    *(hnp.unsigned_integer_dtypes(endianness=order) for order in "<>"),
    *(hnp.floating_dtypes(endianness=order) for order in "<>"),
    *(hnp.boolean_dtypes(), hnp.complex_number_dtypes(), hnp.datetime64_dtypes(), hnp.byte_string_dtypes()),
    *(hnp.array_dtypes(), hnp.unicode_string_dtypes(), st.just(np.dtype(object))),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_array(data):
    shape = data.draw(
        st.one_of(
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
            st.sampled_from([(1, 1), (1, 10_000), (10_000, 1, 3), (1, 10_000, 4), (3, 1, 1)]),
        )
    )
    array = np.zeros(shape, data.draw(any_dtype))
    if array.dtype.kind in "fui" and array.size < 1000:
        low_high = {"min_value": 0, "max_value": 1} if array.dtype.kind == "f" and data.draw(st.booleans()) else {}
        array = data.draw(hnp.arrays(array.dtype, shape, elements=hnp.from_dtype(array.dtype, **low_high)))
    change = data.draw(st.sampled_from(["none", "reversed", "every other", "transposed", "read-only", "Fortran"]))
    if change == "reversed":
        array = array[::-1] if array.ndim else array
    elif change == "every other":
        array = array[:, ::2] if array.ndim > 1 else array
    elif change == "transposed":
        array = array.swapaxes(0, 1) if array.ndim > 1 else array
    elif change == "Fortran":
        array = np.asfortranarray(array)
    array.flags.writeable = change != "read-only" and array.flags.writeable
    read = read_or_refuse(array)
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype == np.uint8 and fits and array.size:
        assert read is not None
    if read is not None:
        assert read.shape == (*array.shape[:2], 3)
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            assert np.array_equal(read, array)


SCRIPT = """
import pathlib, pickle, re, sys
sys.path.insert(0, sys.argv[1])
from ferkit.errors import ImageError
from ferkit.sources.images import read_image
from pictures import encoded, picture

def peak():  # in kilobytes, of this program: what `resource` says begins with the peak of whoever started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

for form in ("PNG", "WEBP", "AVIF", "TIFF", "GIF"):  # decoders are loaded when they are first needed
    read_image(encoded(picture(), form))
for name, data in pickle.load(sys.stdin.buffer).items():
    before = peak()
    try:
        said = f"read as {read_image(data).shape}"
    except ImageError as error:
        said = str(error)
    print(name, peak() - before, said, sep="\\t")
"""
LARGE_TEXT = zlib.compress(b"x" * 50_000_000)
LYING = {
    "png with a large text": png_header(4, 4, chunk(b"zTXt", b"a\0\0" + LARGE_TEXT)),
    "png with a large profile": png_header(4, 4, chunk(b"iCCP", b"a\0\0" + LARGE_TEXT)),
    "png with a chunk of 2 GB": png_header(4, 4, b"\x7f\xff\xff\xffprVt"),
    "png that ends early": bombs(13_000)["png"],
    "ppm that ends early": bombs(13_000)["ppm"],
    "packed": gzip.compress(bytes(10**8)),
    "icon": encoded(picture(), "ICO"),
    # Last: what memory it takes hides what others would take after it.
    "tiff in one large strip": bombs(13_000)["tiff packed"],
}


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in kilobytes, as Linux does")
def test_bombs_are_refused_before_memory_grows():
    """50,000 x 50,000 pixels would be 7.5 GB; what is measured is the memory of the process, not Python's part."""
    hostile = bombs(50_000) | LYING
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, Path(__file__).parents[1] / "helpers"],
        input=pickle.dumps(hostile),
        capture_output=True,
        check=True,
    )
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [name for name, *_ in rows] == list(hostile)
    for name, kilobytes, said in rows:
        # 13,000 x 13,000 pixels are within our limit, and libtiff makes room for a strip before it reads it.
        assert int(kilobytes) < (550_000 if name == "tiff in one large strip" else 20_000), (name, said)
        assert said.startswith("Cannot read bytes: "), (name, said)
        if name in bombs(50_000) and name not in ("avif", "webp canvas"):  # which some decoders refuse on their own
            assert "it claims more than 178,956,970 pixels. Shrink it first." in said, (name, said)


FLOODS = floods(400_000)


@pytest.mark.parametrize("kind", FLOODS)
def test_what_is_slow_to_decode_is_refused_before_a_decoder_sees_it(kind, monkeypatch):
    """No thread can be ended while it decodes, so time is bounded by what is counted beforehand."""
    monkeypatch.setattr("PIL.Image.open", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(ImageError, match=r"^Cannot read bytes: decoding would take too long \(.+\)\.") as refused:
        read_image(FLOODS[kind])
    assert "\n" not in str(refused.value)


UNUSUAL = {
    "jpeg with twenty scans": many_scans(400, 300, 20),
    "small jpeg with hundreds of scans": many_scans(40, 30, 300),
    "jpeg with hundreds of segments": encoded(picture(), "JPEG")[:2]
    + b"\xff\xe4\0\2" * 900
    + encoded(picture(), "JPEG")[2:],
    "png with thousands of parts": png_header(1, 1)[:33]
    + b"".join(chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(bytes(4)) + bytes(5000))
    + chunk(b"IEND", b""),
    "animation": encoded(picture(), "PNG", save_all=True, append_images=[picture()] * 30),
    "ppm as text": b"P2 30 20 255\n" + b"7 " * 600,
    "tiff in rows": encoded(picture(300, 400), "TIFF", strip_size=1),
    "bigtiff": encoded(picture(), "TIFF", big_tiff=True),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_merely_unusual_is_read(kind):
    assert read_or_refuse(UNUSUAL[kind]) is not None


def test_tags_of_a_large_exif_block_are_not_looked_at(monkeypatch):
    """Pillow reads them in Python, and only a JPEG limits their size."""
    data = encoded(picture(), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(1 << 21))
    monkeypatch.setattr(PIL.Image.Image, "getexif", lambda image: pytest.fail("read"))
    assert read_image(data).shape == (30, 40, 3)
