"""Classify image files: python examples/predict.py t2t_vit_14 cat.jpg dog.jpg"""

import sys

import numpy as np

import keras_t2t

if len(sys.argv) < 3:
    sys.exit(__doc__)
variant, *paths = sys.argv[1:]
model = keras_t2t.create(variant, weights="imagenet")

# The size, crop, mean and std belong to the weights, so the model is asked for them.
preprocessing = keras_t2t.model_preprocessing(model)
images = np.stack([preprocessing(path) for path in paths])

for path, classes in zip(paths, keras_t2t.decode_predictions(model.predict(images)), strict=True):
    print(path)
    for _, name, probability in classes:
        print(f"  {probability:6.1%}  {name}")
