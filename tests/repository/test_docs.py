"""The documentation, run: every Python block, every `ferkit` command, every link; and nothing in it may be stale."""

import ast
import base64
import builtins
import doctest
import importlib
import importlib.machinery
import importlib.util
import json
import re
import shlex
import shutil
import sys
import tomllib
import types
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from markdown_it import MarkdownIt

import ferkit
from clips import write_clip
from dataset_files import png, row, write_csv, write_tree
from faces import face_set
from ferkit.batch.engines import ENGINES
from ferkit.data.loading import load_table
from ferkit.data.readers import READERS
from ferkit.data.splits import SPLITS
from ferkit.detection.detectors import DETECTORS
from ferkit.evaluation import METHODS
from ferkit.evaluation.corruptions import CORRUPTIONS
from ferkit.models import model_folder, sample_picture
from ferkit.models.architectures import ARCHITECTURES
from ferkit.models.exporting import FORMATS
from ferkit.models.tta import TTA
from ferkit.render.sinks import SINKS
from ferkit.sources.images import read_image
from ferkit.training.config import RECIPES
from ferkit.training.schedules import SCHEDULES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "ferkit"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
NAMED = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in DOCUMENTS]
# They train, several times over, or export, or measure; CI runs them.
LONG = {
    "training.md",
    "fine-tuning.md",
    "models.md",
    "tutorial.md",
    "tuning.md",
    "mobile.md",
    "evaluation.md",
    "quickstart.md",
    "coming-from.md",
}
SNIPPETS = [
    pytest.param(path, marks=[pytest.mark.slow] if path.name in LONG else [], id=str(path.relative_to(ROOT)))
    for path in DOCUMENTS
]
REGISTRIES = (ARCHITECTURES, CORRUPTIONS, DETECTORS, FORMATS, READERS, RECIPES, SCHEDULES, SINKS, TTA)
# A block after such a comment is shown, but makes no sense here: a camera, hours of training.
NOT_RUN = re.compile(r"<!-- not run: .+ -->")


@dataclass(frozen=True)
class Block:
    """Code of a document: a fenced block, or a cell in the column "ferkit" of a table. `line` counts from 1."""

    language: str
    code: str
    line: int


def parse(path: Path):
    return MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))


def blocks_of(path: Path) -> list[Block]:
    found, skip, header, column = [], False, [], 0
    for token, inline in zip(tokens := parse(path), [*tokens[1:], None], strict=True):
        if token.type == "fence" and not skip:
            found.append(Block(token.info, token.content, token.map[0] + 2))
        elif token.type == "thead_open":
            header = []
        elif token.type == "th_open":
            header.append(inline.content)
        elif token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            if header[column] == "ferkit":
                code = "\n".join(part.content for part in inline.children if part.type == "code_inline")
                found.append(Block("python", code, inline.map[0] + 1))
            column += 1
        skip = token.type == "html_block" and bool(NOT_RUN.fullmatch(token.content.strip()))
    return found


def commands_of(block: Block) -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for line in block.code.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words]


def text_of(*paths: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with small files of the names that the documents use."""
    pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("docs")
    splits = [face_set(n, n, name) for name, n in (("Training", 70), ("PublicTest", 28), ("PrivateTest", 29))]
    faces = [(face, label, one.name) for one in splits for face, label in zip(one.images, one.labels, strict=True)]
    write_csv(folder / "fer2013.csv", [row(*face) for face in faces])
    write_csv(
        folder / "fer2013new.csv",
        [f"{split},fer{i:07}.png,1,4,0,2,1,0,0,1,1,0" for i, (_, _, split) in enumerate(faces)],
        header="Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF",
    )
    ages = [f"{i},{('18-29', '30-59', '60-')[i % 3]},{'mfx'[i % 3]},{i % 20}" for i in range(len(faces))]
    (folder / "people.csv").write_text("\n".join(("row,age_band,gender,subject", *ages)))
    own = face_set(40, 5, "own", classes=("awake", "tired"))
    places = [f"{'test' if i % 4 == 3 else 'train'}/{own.classes[label]}/{i}.png" for i, label in enumerate(own.labels)]
    write_tree(folder / "my_faces", dict(zip(places, map(png, own.images), strict=True)))

    shutil.copyfile(sample_picture(), folder / "photo.jpg")
    PIL.Image.open(sample_picture()).crop((165, 57, 285, 177)).save(folder / "face.png")
    (folder / "holidays").mkdir()
    for name in ("1.jpg", "2.jpg"):
        shutil.copyfile(sample_picture(), folder / "holidays" / name)
    PIL.Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "holidays" / "night.png")

    nodding = [np.roll(read_image(sample_picture())[:360], 3 * step, axis=0) for step in range(6)]
    write_clip(folder / "clip.mp4", nodding)
    shutil.copytree(folder / "holidays", folder / "frames")
    (folder / "study").mkdir()
    for name in ("first.mp4", "second.mp4"):
        shutil.copyfile(folder / "clip.mp4", folder / "study" / name)

    shutil.copytree(model_folder.find("default"), folder / "my_model")
    ARCHITECTURES["tutorial"]().save(folder / "emotion_model_keras.h5")
    return folder


@pytest.fixture
def workplace(files, tmp_path, monkeypatch):
    """A copy of the folder to work in, recipes of one epoch, and registries that forget what documents register."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_choices", dict(registry._choices))
    for name, recipe in RECIPES.items():
        RECIPES._choices[name] = replace(
            recipe, config=replace(recipe.config, epochs=1, head_epochs=0, warmup_epochs=0)
        )
    if importlib.util.find_spec("ai_edge_litert") is None:
        # TensorFlow carries the same interpreter under another name.
        for name in ("ai_edge_litert", "ai_edge_litert.interpreter"):
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            module.__getattr__ = lambda wanted: getattr(importlib.import_module("tensorflow").lite, wanted)
            monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(shutil.copytree(files, tmp_path / "work"))


@pytest.mark.keras
def test_what_contributing_adds_keeps_the_contracts(workplace, rng, tmp_path, capsys):
    """Its examples define choices; here each is held to what the tests ask of all, by the name that it registers."""
    import test_detection
    import test_models
    import test_robustness

    names = {"__name__": "snippet"}
    before = {(registry.kind, choice) for registry in REGISTRIES for choice in registry}
    for block in blocks_of(ROOT / "CONTRIBUTING.md"):
        if block.language == "python":
            exec(block.code, names)  # noqa: S102
    added = {(registry.kind, choice) for registry in REGISTRIES for choice in registry} - before
    assert {choice for _, choice in added} == {"small", "tree", "jsonl", "quick", "fog", "counts"}

    (example,) = doctest.DocTestFinder().find(names["small"], "small", module=False, globs=names)
    assert doctest.DocTestRunner().run(example) == (0, 1)
    for classes, shape in test_models.SHAPES.values():
        test_models.test_architecture_contract("small", classes, shape, rng, tmp_path)
    test_models.test_activation_reaches_the_network_or_is_refused("small", rng)
    for picture in test_detection.PICTURES:
        test_detection.test_contract_of_every_detector("tree", picture)
    test_detection.test_every_detector_finds_the_astronaut("tree")
    test_robustness.test_each_strength_takes_more_away("fog", 1, 48)
    test_robustness.test_each_strength_takes_more_away("fog", 3, 96)

    assert RECIPES["quick"].config.epochs == 5
    recognizer = ferkit.EmotionRecognizer()
    with SINKS["counts"](Path("counts.json"), recognizer.classes) as sink:
        sink.write(recognizer("photo.jpg"))
    assert sum(json.loads(Path("counts.json").read_text()).values()) == 1
    names["labels"]()
    assert capsys.readouterr().out.split() == list(ferkit.labels.EMOTIONS)


def test_the_reader_of_contributing_reads_and_reports(workplace):
    names = {"__name__": "snippet"}
    for block in blocks_of(ROOT / "CONTRIBUTING.md"):
        if "JsonLinesReader" in block.code:
            exec(block.code, names)  # noqa: S102
    READERS._choices["folders"] = READERS._choices.pop("folders")  # the last, as the text asks

    faces = face_set(20, 1, "all")
    lines = [
        json.dumps({"label": faces.classes[label], "image": base64.b64encode(png(face)).decode()})
        for face, label in zip(faces.images, faces.labels, strict=True)
    ]
    Path("faces.jsonl").write_text("\n".join(lines))
    table = load_table(Path("faces.jsonl"))
    assert (table.form, table.broken) == ("jsonl", ())
    np.testing.assert_array_equal(table.images, faces.images)
    assert [table.classes[label] for label in table.labels] == [faces.classes[label] for label in faces.labels]
    assert load_table(Path("faces.jsonl"), size=(24, 32), channels=3).images.shape == (20, 24, 32, 3)

    bad = [
        '{"image": "AAAA"}',
        '{"label": "sad", "image": "A"}',
        '{"label": "sad", "image": "AAAA"}',
        "[]",
        "[" * 100_000,
    ]
    Path("bad.jsonl").write_text("\n".join([*lines, *bad]))
    table = load_table(Path("bad.jsonl"))
    assert [one.where for one in table.broken] == [f"line {number}" for number in range(21, 26)]
    assert table.classes == load_table(Path("faces.jsonl")).classes


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("path", [one for one in SNIPPETS if blocks_of(one.values[0])])
def test_snippets_run(path, workplace):
    """In order, as a reader would: the Python blocks of a document share their names."""
    from ferkit.cli import app

    names = {"ferkit": ferkit, "__name__": "snippet"}
    for block in blocks_of(path):
        if block.language == "python":
            # Empty lines in front: a traceback then shows the line of the document.
            exec(compile("\n" * (block.line - 1) + block.code, str(path), "exec"), names)  # noqa: S102
        elif block.language == "sh":
            for program, *arguments in commands_of(block):
                if program == "ferkit":
                    code = app(arguments, standalone_mode=False)
                    assert not code, f"{path.name}:{block.line}: ferkit {shlex.join(arguments)} gave exit code {code}"


@pytest.mark.parametrize("path", NAMED)
def test_snippets_import_what_they_use(path):
    """Also those that run for long: a name comes from this block or from one above it on the same page."""
    known = {*dir(builtins), "ferkit", "__name__"}
    for block in blocks_of(path):
        if block.language == "python":
            nodes = list(ast.walk(ast.parse(block.code)))
            used = {one.id for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
            known |= {one.id for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
            known |= {one.name for one in nodes if isinstance(one, ast.FunctionDef | ast.ClassDef)}
            known |= {one.arg for one in nodes if isinstance(one, ast.arg)}
            known |= {one.name for one in nodes if isinstance(one, ast.ExceptHandler) and one.name}
            known |= {(one.asname or one.name).split(".")[0] for one in nodes if isinstance(one, ast.alias)}
            assert used <= known, f"{path.name}:{block.line} uses {', '.join(sorted(used - known))}, imported nowhere"


@pytest.mark.parametrize("path", NAMED)
def test_blocks_say_their_language(path):
    # Kotlin and JavaScript run in tests/models/test_mobile_example.py and tests/serve/test_browser.py.
    assert {block.language for block in blocks_of(path)} <= {"python", "sh", "text", "kotlin", "js"}


@pytest.mark.parametrize("path", NAMED)
def test_make_targets_and_extras_exist(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in blocks_of(path):
        if block.language == "sh":
            used = {words[1] for words in commands_of(block) if words[0] == "make"}
            assert used <= targets
    # All pages install from a clone.
    assert "pip install 'ferkit[" not in path.read_text()
    extras = set(re.findall(r"(?:ferkit|\.)\[(\w+)\]'", path.read_text()))
    assert extras <= set(project["optional-dependencies"])


@pytest.mark.parametrize("path", NAMED)
def test_links_lead_somewhere(path):
    parts = [part for token in parse(path) for part in token.children or ()]
    targets = [
        str(part.attrs.get("href") or part.attrs["src"]) for part in parts if part.type in ("link_open", "image")
    ]
    for target in targets:
        name, _, heading = target.partition("#")
        if "://" in name:
            continue
        place = path.parent / name if name else path
        assert place.exists(), f"{path.name} links to {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_file_map_names_every_module():
    (listed,) = [block.code for block in blocks_of(ROOT / "CONTRIBUTING.md") if block.code.startswith("src/ferkit/")]
    named = re.findall(r"^  ([a-z_]+(?:\.py|/)) ", listed, re.MULTILINE)
    # Not __pycache__, and not __init__.py, which every package has.
    modules = {path.name for path in SOURCE.glob("[a-z]*.py")}
    packages = {f"{path.name}/" for path in SOURCE.glob("*/") if path.name != "__pycache__"}
    assert sorted(named) == sorted(modules | packages)


def test_paths_that_contributing_names_exist():
    """From the top or from src/ferkit; a test or a module by its name alone."""
    inline = [part for token in parse(ROOT / "CONTRIBUTING.md") for part in token.children or ()]
    texts = {part.content.replace("ROOM", "*") for part in inline if part.type == "code_inline"}
    named = {text for text in texts if re.fullmatch(r"\w[\w./*-]*(/|\.(py|pyi|md|toml))", text)}
    assert {"src/ferkit/", "tests/*/", "render/sinks.py", "docs/LOG.md", "test_docs.py"} <= named
    gone = {
        path
        for path in named
        if not any(next(place.glob(path), None) for place in (ROOT, SOURCE))
        and ("/" in path or not any(next((ROOT / top).rglob(path), None) for top in ("src", "tests")))
    }
    # What its example adds.
    assert gone == {"src/ferkit/detection/tree.py"}


@pytest.mark.parametrize(
    ("document", "choices"),
    [
        pytest.param("docs/data.md", READERS, id="formats"),
        pytest.param("docs/data.md", SPLITS, id="splits"),
        pytest.param("docs/training.md", RECIPES, id="recipes"),
        pytest.param("docs/training.md", ARCHITECTURES, id="models"),
        pytest.param("docs/training.md", SCHEDULES, id="schedules"),
        pytest.param("docs/evaluation.md", TTA, id="tta"),
        pytest.param("docs/robustness.md", CORRUPTIONS, id="corruptions"),
        pytest.param("docs/recognition.md", DETECTORS, id="detectors"),
        pytest.param("docs/models.md", FORMATS, id="export"),
        pytest.param("docs/recognition.md", SINKS, id="sinks"),
        pytest.param("docs/batch.md", ENGINES, id="engines"),
        pytest.param("docs/explain.md", METHODS, id="explanations"),
    ],
)
def test_every_choice_has_a_row(document, choices):
    rows = re.findall(r"^\| `([\w-]+)` \|", text_of(ROOT / document), re.MULTILINE)
    assert set(choices) <= set(rows)


def test_every_command_is_shown():
    from ferkit.cli import app

    shown = {words[1] for path in DOCUMENTS for block in blocks_of(path) if block.language == "sh"
             for words in commands_of(block) if words[0] == "ferkit"}  # fmt: skip
    prose = set(re.findall(r"`ferkit (\w+)", text_of(*DOCUMENTS)))
    assert {command.callback.__name__ for command in app.registered_commands} <= shown | prose


def test_every_environment_variable_is_listed():
    used = set(re.findall(r"FERKIT_[A-Z]+(?:_[A-Z]+)*", text_of(*SOURCE.rglob("*.py"))))
    page = ROOT / "docs" / "reference" / "environment.md"
    assert used | {"FERKIT_SHARED"} == set(re.findall(r"^\| `(FERKIT_[A-Z_]+)` \|", text_of(page), re.MULTILINE))


def test_the_tutorial_is_also_one_file():
    """Imports at its top, then the statements of the page in order."""
    page = "\n".join(one.code for one in blocks_of(ROOT / "docs" / "tutorial.md") if one.language == "python")
    _, *file = ast.parse(text_of(ROOT / "examples" / "tutorial.py")).body  # not its docstring
    imports, statements = [], []
    for body in (ast.parse(page).body, file):
        found = [isinstance(one, ast.Import | ast.ImportFrom) for one in body]
        imports.append({ast.unparse(one) for one, is_import in zip(body, found, strict=True) if is_import})
        statements.append([ast.unparse(one) for one, is_import in zip(body, found, strict=True) if not is_import])
    assert imports[0] == imports[1]
    assert statements[0] == statements[1]


def test_every_statement_on_security_names_tests_that_there_are():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    section = text.split("## What holds, and its tests\n")[1].split("\n## ")[0]
    statements = re.findall(r"^- (?:.+\n)(?:  .+\n)*", section, re.MULTILINE)
    assert len(statements) > 20
    for statement in statements:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", statement)
        assert named, statement
        for file, name in named:
            functions = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
            assert name in {one.name for one in functions if isinstance(one, ast.FunctionDef)}, statement
