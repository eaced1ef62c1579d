"""The galleries of a report page: the mistakes a model was surest of, and the faces it hesitated over most."""

from html import escape

import numpy as np

from ferkit import metrics
from ferkit.evaluation import Report
from ferkit.report.parts import face_tile

COUNT = 24
# Where the first answer leads by less, the text counts who was right.
_CLOSE = 0.1

MISTAKES_TEXT = (
    "Label, then answer; the strip has the answer's colour. Some of these faces are mislabelled or show more than one "
    "expression: look before you blame the model."
)


def mistakes(report: Report) -> str:
    tiles = []
    for index in metrics.confident_mistakes(report.probabilities, report.faces.labels, COUNT):
        true = escape(_label(report, index))
        answer = report.classes[int(report.probabilities[index].argmax())]
        confidence = f"{report.probabilities[index].max():.0%}"
        alt = f"Face labelled {true}, called {escape(answer)} with {confidence}"
        tiles.append(
            face_tile(
                report.faces.images[index], [answer], alt, f"{true} &rarr; {escape(answer)}", f"{confidence} sure"
            )
        )
    return f'<ul class="faces">{"".join(tiles)}</ul>' if tiles else "<p>There are none.</p>"


def doubtful(report: Report) -> str:
    tiles = []
    for index in metrics.most_doubtful(report.probabilities, COUNT):
        ranked = np.argsort(-report.probabilities[index], kind="stable")[:2]
        answers = [report.classes[k] for k in ranked]
        caption = " or ".join(map(escape, answers))
        first, second = (f"{report.probabilities[index, k]:.0%}" for k in ranked)
        true = escape(_label(report, index))
        alt = f"Face labelled {true}, called {caption} with {first} and {second}"
        tiles.append(
            face_tile(report.faces.images[index], answers, alt, caption, f"{first} and {second}<br>label: {true}")
        )
    return f'<ul class="faces">{"".join(tiles)}</ul>'


def doubtful_text(report: Report) -> str:
    text = "First and second answer, which are almost equally likely here, and the label; the strip has both colours."
    close = metrics.answer_gaps(report.probabilities) < _CLOSE
    if not close.any():
        return text
    probabilities, labels = report.probabilities[close], report.faces.labels[close]
    without_first = probabilities.copy()
    np.put_along_axis(without_first, probabilities.argmax(axis=1)[:, None], -1, axis=1)
    first, second = (metrics.accuracy(one, labels) for one in (probabilities, without_first))
    return (
        f"{text} Of all {report.n:,} faces, {close.sum():,} have less than {_CLOSE * 100:.0f} points between the two; "
        f"there the first is right on {first:.0%}, the second on {second:.0%}."
    )


def _label(report: Report, index: int) -> str:
    return report.classes[int(report.faces.labels[index])]
