from . import batch as batch
from . import models as models
from .batch import run_batch as run_batch
from .batch import summarize as summarize
from .data import Dataset as Dataset
from .data import FaceSet as FaceSet
from .data import load_dataset as load_dataset
from .errors import FerkitError as FerkitError
from .evaluation import Comparison as Comparison
from .evaluation import Explanation as Explanation
from .evaluation import Report as Report
from .evaluation import compare as compare
from .evaluation import evaluate as evaluate
from .evaluation import explain as explain
from .models import EmotionClassifier as EmotionClassifier
from .models import Ensemble as Ensemble
from .models import export as export
from .models import sample_picture as sample_picture
from .recognizer import EmotionRecognizer as EmotionRecognizer
from .results import Box as Box
from .results import Face as Face
from .results import FaceEmotion as FaceEmotion
from .results import PictureResult as PictureResult
from .results import Results as Results
from .training import Run as Run
from .training import TrainConfig as TrainConfig
from .training import find_label_issues as find_label_issues
from .training import train as train
from .training import train_seeds as train_seeds
from .training import tune as tune
from .video import Timeline as Timeline
from .video import analyze_video as analyze_video
from .video import analyze_videos as analyze_videos

__all__: list[str]
__version__: str
