"""Find the face in a picture, print its emotion, write an annotated picture and a bar chart. Works offline.

Run it with `make demo`, or with a picture of your own: `python examples/demo.py me.jpg`.
"""

import sys
from pathlib import Path

import PIL.Image

from ferkit._support.files import write_encoded
from ferkit.detection.crops import cut_face
from ferkit.evaluation.figures import probability_bars
from ferkit.models import sample_picture
from ferkit.recognizer import EmotionRecognizer
from ferkit.render.drawing import annotate

picture = Path(sys.argv[1]) if len(sys.argv) > 1 else sample_picture()
folder = Path("demo")

# A recognizer finds faces, cuts them out, and asks a network which emotion each is perceived to show.
recognizer = EmotionRecognizer()
result = recognizer(picture)
print(f"{picture.name}: {result.width}x{result.height} pixels, {len(result)} face(s)")

for number, face in enumerate(result, start=1):
    print(f"\nface {number}: {face.label} ({face.confidence:.1%})")
    for emotion, probability in face.top():
        print(f"  {emotion:<9} {probability:>6.1%}  {'#' * round(probability * 40)}")
    name = "probabilities" if number == 1 else f"probabilities_{number}"
    cut = cut_face(result.pixels, face.face, recognizer.classifier.face_input)
    probability_bars(face.probabilities, folder / f"{picture.stem}_{name}.png", face=cut)

drawn = PIL.Image.fromarray(annotate(result.pixels, result))
write_encoded(folder / f"{picture.stem}.jpg", lambda file: drawn.save(file, "JPEG", quality=92))

print("\nWritten:", *sorted(folder.glob(f"{picture.stem}*")), sep="\n  ")
