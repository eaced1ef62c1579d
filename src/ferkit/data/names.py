"""What names in data sets mean: which split a folder is of, which emotion a class is; and the notes on what was changed."""

import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import lru_cache

from ferkit.errors import DatasetError
from ferkit.labels import EMOTIONS, WITH_CONTEMPT, canonical

_KNOWN = set(WITH_CONTEMPT)
NUMBERS = ", ".join(f"{number} {name}" for number, name in enumerate(EMOTIONS))

# What the parts of a data set are called, in lower case, accents aside: names that mean nothing else.
_SPLIT_WORDS = {
    "train": (
        "train training trainings trained trainval trn entrainement apprentissage entrenamiento treino treinamento "
        "addestramento allenamento egitim trening treningowy обучение обучающая обучающий тренировка тренировочная "
        "навчання 训练 訓練 学習 學習 학습 훈련 تدريب pelatihan latih"
    ),
    "val": (
        "val valid validate validation validating dev devel development eval evaluation publictest validierung "
        "validierungs validacion validacao validazione validatie walidacja walidacyjny dogrulama валидация "
        "валидационная 验证 驗證 検証 검증 validasi تحقق"
    ),
    "test": (
        "test tests testing tst privatetest holdout heldout teste pruebas prueba prufung pruefung testowy testdaten тест тестирование "
        "тестовая тестовый 测试 測試 テスト 테스트 اختبار pengujian uji"
    ),
}
# What stands beside them: names of data sets, and words for data and pictures.
_BESIDE = (
    "fer ferplus plus raf rafdb affectnet ck ckplus kdef jaffe expw sfew db data set sets image images img imgs "
    "picture pictures pics photo photos face faces facial emotion emotions expression expressions split splits folder "
    "dir part partition sample samples subset final new original orig clean full cropped aligned resized augmented aug "
    "gray grey rgb my the label labels list lists annotation annotations metadata daten satz bilder menge donnees jeu ensemble de des datos conjunto imagenes dados imagens "
    "dati immagini veri verisi seti kumesi данные выборка набор 集 数据 數據 图像 图片 データ セット 用 画像 데이터 셋 세트 이미지 용"
)


def _plain(text: str) -> str:
    """Letters without their accents, as all systems store them: é may be one character or two."""
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))


def _any_of(words: str) -> str:
    return "|".join(sorted(map(re.escape, _plain(words).split()), key=len, reverse=True))


_SPLIT_NAME = re.compile(
    f"(?:{_any_of(_BESIDE)})*(?:{'|'.join(f'(?P<{split}>{_any_of(words)})' for split, words in _SPLIT_WORDS.items())})"
    f"(?:{_any_of(_BESIDE)})*"
)
_LONGEST_SPLIT_NAME = 60
# Letters in a row: `FER2013Train` has two words.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without accents, numbers and signs."""
    return [word.casefold() for word in _WORD.findall(_plain(name))]


@lru_cache(maxsize=4096)
def split_of(name: str) -> str:
    """Which split a folder, a file or a cell of that name means: train, val or test; "" for any other name.

    >>> split_of("FER2013Train"), split_of("test_set"), split_of("PublicTest"), split_of("entraînement")
    ('train', 'test', 'val', 'train')
    >>> split_of("happy"), split_of("train_station")
    ('', '')
    """
    found = _SPLIT_NAME.fullmatch("".join(words_of(name))) if len(name) <= _LONGEST_SPLIT_NAME else None
    return (found.lastgroup or "") if found else ""


_NUMBERED = re.compile(r"\d+[\W_]*(?P<behind>[^\W\d].*)|(?P<before>.*[^\W\d])[\W_]*\d+")


def emotion_of(folder: str) -> str:
    """The emotion that a folder's name means, with or without a number before or behind it; "" for any other.

    >>> emotion_of("0_angry"), emotion_of("Happiness"), emotion_of("cats")
    ('angry', 'happy', '')
    """
    numbered = _NUMBERED.fullmatch(folder.strip())
    name = canonical(folder if numbered is None else numbered["behind"] or numbered["before"])
    return name if name in _KNOWN else ""


def class_names(names: Iterable[str], notes: list[str]) -> dict[str, str]:
    """The class that each name stands for; notes say what was changed, and what looks like numbers of emotions."""
    found = list(names)
    # Beside classes of another kind a number may be part of the name.
    numbered = all(map(emotion_of, found))
    classes = {name: emotion_of(name) if numbered else canonical(name) for name in found}
    changed = [
        f"{name} as {known}"
        for name, known in classes.items()
        if known not in (name.strip().lower() if known in _KNOWN else name, name)
    ]
    if changed:
        notes.append(f"Class names were changed: {', '.join(changed)}.")
    if kept := [name for name in found if emotion_of(name) and classes[name] not in _KNOWN]:
        notes.append(f"Class names with numbers are kept, as not all of them are emotions: {', '.join(kept)}.")
    if any(name.isdecimal() for name in found):
        notes.append(
            "Numbers are kept as names of classes, as data sets number emotions in different orders. If these are "
            f"FER-2013's ({NUMBERS}), rename them."
        )
    return classes


def numbered_classes(source: str, numbers: Collection[int], notes: list[str]) -> tuple[str, ...]:
    """The classes of labels that are numbers without names, read as FER-2013's, with contempt as 7 where it occurs.

    A note says what may be wrong. Raises `DatasetError` if the numbers count from 1.
    """
    contempt = WITH_CONTEMPT.index("contempt")
    if 0 in numbers and contempt in numbers:
        notes.append(f"Label {contempt} is read as contempt.")
        return WITH_CONTEMPT
    if 0 in numbers or not numbers:
        return EMOTIONS
    if contempt in numbers:
        raise DatasetError(
            f"{source} has labels from {min(numbers)} to {max(numbers)}. Expected FER-2013's, {NUMBERS}, or names: data "
            "sets that count from 1 have other orders, so replace the numbers by names."
        )
    if len(numbers) > 1 and set(range(1, len(EMOTIONS))) <= set(numbers):
        notes.append(f"No label is 0 ({EMOTIONS[0]}): check that the labels count as FER-2013's do ({NUMBERS}).")
    return EMOTIONS
