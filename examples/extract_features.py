"""Describe images by vectors: python examples/extract_features.py t2t_vit_14 features.npz *.jpg

Each image becomes one vector, the class token after the last norm. The cosine of two vectors says
how similar the images are.
"""

import sys

import numpy as np

import keras_t2t

if len(sys.argv) < 4:
    sys.exit(__doc__)
variant, output, *paths = sys.argv[1:]
model = keras_t2t.create(variant, include_top=False, pooling="token", weights="imagenet")

preprocessing = keras_t2t.model_preprocessing(model)
features = model.predict(np.stack([preprocessing(path) for path in paths]))

directions = features / np.linalg.norm(features, axis=1, keepdims=True)
print(np.round(directions @ directions.T, 3))
np.savez(output, paths=paths, features=features)
