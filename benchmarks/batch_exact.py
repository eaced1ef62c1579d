"""Do networks answer the same to the bit, however many faces they see at once?

    python benchmarks/batch_exact.py

For each model of the package and several sizes of batches: how many of 64 faces get another answer than in a batch of 32,
and by how much at most. Why `ferkit batch` always sends 32 faces, black ones among them where there are fewer.
"""

import numpy as np
import numpy.typing as npt

from ferkit.batch.worker import BATCH_FACES
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.model_folder import PACKAGED

_SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 31, 64)


def main() -> None:
    print(f"{'model':<14}{'batch':>6}{'other answers':>15}{'at most':>10}")
    for name in PACKAGED:
        classifier = EmotionClassifier.load(name, threads=1)
        faces = _faces(classifier, 2 * BATCH_FACES)
        usual = _answers(classifier, faces, BATCH_FACES)
        for size in _SIZES:
            found = _answers(classifier, faces, size)
            print(f"{name:<14}{size:>6}{(found != usual).any(axis=1).sum():>15}{np.abs(found - usual).max():>10.1g}")
        filled = np.zeros_like(faces[:BATCH_FACES])
        filled[: BATCH_FACES // 2] = faces[: BATCH_FACES // 2]
        same = (classifier.predict_proba(filled) == usual[:BATCH_FACES])[: BATCH_FACES // 2].all()
        print(f"{name:<14}{'half of the batch black: the same' if same else 'half of the batch black: DIFFERENT'}")


def _faces(classifier: EmotionClassifier, count: int) -> npt.NDArray[np.uint8]:
    """Noise as coarse as features of a face, uint8 (count, height, width, channels)."""
    wanted = classifier.face_input
    coarse = np.random.default_rng(0).integers(0, 256, (count, 6, 6, wanted.channels), dtype=np.uint8)
    large = coarse.repeat(-(-wanted.height // 6), axis=1).repeat(-(-wanted.width // 6), axis=2)
    return np.ascontiguousarray(large[:, : wanted.height, : wanted.width])


def _answers(classifier: EmotionClassifier, faces: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    return np.concatenate([classifier.predict_proba(faces[i : i + size]) for i in range(0, len(faces), size)])


if __name__ == "__main__":
    main()
