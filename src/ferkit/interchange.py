"""Results as the objects of other libraries: pandas and supervision, each imported when it is asked for."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ferkit.errors import MissingDependencyError
from ferkit.results import UNCERTAIN, PictureResult
from ferkit.rows import face_rows, table_columns

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv

# Int32, not int32: a picture without a face has no box.
_DTYPES: dict[type, str] = {str: "string", int: "Int32", float: "float64"}


def to_pandas(results: Iterable[PictureResult], classes: Sequence[str] = ()) -> "pd.DataFrame":
    """A row per face with the columns of every table of faces; a picture without a face has one with an empty label.

    classes: those of the model, for where no result has any; else the columns are the classes of the results.

    Columns are typed also where there is no row: text is `string`, boxes are `Int32`, shares are `float64`.
    Raises `MissingDependencyError` without pandas.
    """
    try:
        import pandas as pd
    except ImportError as problem:
        raise MissingDependencyError("to_pandas needs pandas: pip install pandas") from problem
    kept = list(results)
    columns = table_columns(list(dict.fromkeys(name for result in kept for name in result.classes)) or classes)
    rows = [row for result in kept for row in face_rows(result)]
    return pd.DataFrame(
        {name: pd.array([row.get(name) for row in rows], _DTYPES[kind]) for name, kind in columns.items()}
    )


def to_supervision(result: PictureResult) -> "sv.Detections":
    """The faces as `supervision.Detections`, for its annotators, trackers, zones and sinks.

    xyxy: float32 (N, 4). confidence: float32 (N,), the detection score, for that is what trackers and filters of
    overlaps weigh boxes by. class_id: int (N,), place in `result.classes`; `uncertain` comes after the last of them.
    data: `class_name` (N,), the label; `emotion_confidence` float32 (N,); `probabilities` float32 (N, classes), columns
    in the order of `result.classes`.

    Raises `MissingDependencyError` without supervision.
    """
    try:
        import supervision as sv
    except ImportError as problem:
        raise MissingDependencyError("to_supervision needs supervision: pip install 'ferkit[supervision]'") from problem
    names, faces = [*result.classes, UNCERTAIN], result.faces
    probabilities = [list(face.probabilities.values()) for face in faces]
    return sv.Detections(
        xyxy=np.array([face.box.to_list() for face in faces], np.float32).reshape(-1, 4),
        confidence=np.array([face.detection_score for face in faces], np.float32),
        class_id=np.array([names.index(face.label) for face in faces], int),
        data={
            "class_name": np.array([face.label for face in faces], np.str_),
            "emotion_confidence": np.array([face.confidence for face in faces], np.float32),
            # Not -1: of nobody's probabilities numpy cannot tell how many rows there are.
            "probabilities": np.array(probabilities, np.float32).reshape(len(faces), len(result.classes)),
        },
    )
