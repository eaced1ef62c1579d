"""The Keras tutorial on FER-2013 with ferkit, as one file: the code of docs/tutorial.md, which explains each step.

Run it in a folder with `fer2013.csv` and `photo.jpg`: `python tutorial.py`. It trains for 50 epochs.
"""

import ferkit
from ferkit.models import freeze_base, unfreeze
from ferkit.training.augmentation import Augmentation
from ferkit.training.config import RECIPES

# 1. Load the data
dataset = ferkit.load_dataset("fer2013.csv", split="random")
print(dataset.train.images.shape, dataset.train.images.dtype)
print(dataset.classes)

# 2. Train/validation split
train, held_out = dataset.train, dataset.val
print(dataset.notes[0])
dataset = ferkit.load_dataset("fer2013.csv")

# 3. Data augmentation
varied = Augmentation(rotation=30, shear=0.2, zoom=0.2, flip=True)

# 4. The network
network = ferkit.models.tutorial(num_classes=7)
network.summary()

# 5. Train for 50 epochs
run = ferkit.train(dataset, recipe="tutorial")

# 6. Learning curves
print(run.folder / "curves.png")
print(run.history[-1]["val_accuracy"])

# 7. Evaluate
report = ferkit.evaluate(run.classifier, dataset.val)
print(report)

# 8. Predict on an image
recognizer = ferkit.EmotionRecognizer(run.classifier)
for face in recognizer("photo.jpg"):
    print(face.label, face.confidence)
squeezed = ferkit.EmotionRecognizer(run.classifier, detector="none")
print(squeezed("photo.jpg")[0].label)

# 9. Save and load
ferkit.export(run.folder, "emotion_model_keras.h5", "h5")
classifier = ferkit.EmotionClassifier.load("emotion_model_keras.h5")
print(classifier.classes, classifier.face_input.height)

# 10. Fine-tune VGG16 or ResNet50
base = ferkit.models.vgg16(num_classes=7)
print(freeze_base(base), "trainable parameters")
print(unfreeze(base, top=4), "trainable parameters")

# 11. Learning-rate schedule and LeakyReLU
config = RECIPES["tutorial"].config.changed(schedule="plateau", activation="leaky_relu")
print(config.schedule, config.activation)
