"""Faces as the rows of a table for people. Imported when `predict` runs, not when its help is shown."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from ferkit.cli.console import output
from ferkit.labels import color_of
from ferkit.results import FaceEmotion, PictureResult
from ferkit.sources import printable_name

_BAR = 12  # letters of a full bar


class TablePrinter:
    """Prints the faces of one picture after another as the rows of one table.

    Not a table of Rich: that needs all rows before it prints the first.
    """

    def __init__(self, pictures: Sequence[object], classes: Sequence[str], top: int | None) -> None:
        self.top = top
        self.name_width = max(len(name) for name in classes)
        self.label_width = max(self.name_width, len("uncertain"))
        others = len("  face  ") + self.label_width + len("  confidence  ") + self.name_width + _BAR + len("  100.0%")
        longest = max([len("source"), *(cell_len(printable_name(picture)) for picture in pictures)])
        # A person sees the end of a long path; a pipe gets all of it.
        self.source_width = min(longest, max(16, output.width - others)) if output.is_terminal else longest
        self.blocks = output.encoding.lower().startswith("utf")
        self.first = True

    def __call__(self, result: PictureResult) -> None:
        if result.error is not None:
            return
        if self.first:
            self._line("source", "face", "emotion", "confidence", "probabilities")
            self.first = False
        if not result.faces:
            self._line(result.source, "-", "no face", "", "")
        for number, face in enumerate(result, start=1):
            first, *others = self._bars(face)
            self._line(result.source if number == 1 else "", str(number), face.label, f"{face.confidence:.1%}", first)
            for bar in others:
                self._line("", "", "", "", bar)

    def _line(self, source: str, face: str, label: str, confidence: str, bar: str | Text) -> None:
        source = printable_name(source)
        if output.is_terminal and cell_len(source) > self.source_width:
            while cell_len(source) >= self.source_width:
                source = source[1:]
            source = "…" + source
        source += " " * (self.source_width - cell_len(source))
        head = f"{source}  {face:>4}  {label:<{self.label_width}}  {confidence:>10}  "
        line = Text(head).append(bar)
        line.rstrip()
        output.print(line, soft_wrap=True)

    def _bars(self, face: FaceEmotion) -> list[Text]:
        """A line per class: its name, its probability as a bar in its colour, and as a number."""
        return [
            Text.assemble(f"{name:<{self.name_width}} ", (f"{self._bar(p):<{_BAR}}", color_of(name)), f" {p:>6.1%}")
            for name, p in face.top(self.top)
        ]

    def _bar(self, p: float) -> str:
        if not self.blocks:
            return "#" * round(p * _BAR)
        whole, eighths = divmod(round(p * _BAR * 8), 8)
        return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()
