"""See what a model attends to: python examples/see_attention.py t2t_vit_14 cat.jpg attention.png

The model is a published variant or a .keras file of your own. The picture shows the attention of
the class token in each block, and attention rollout through all of them.
"""

import sys

import keras
import numpy as np

import keras_t2t
from keras_t2t.inspection import attention_maps, attention_rollout, on_grid, plot_attention

name, path, output = sys.argv[1:]
if name.endswith(".keras"):
    model = keras.saving.load_model(name)
else:
    model = keras_t2t.create(name, weights="imagenet")

preprocessing = keras_t2t.model_preprocessing(model)
image = preprocessing(path)
maps = attention_maps(model, image[None])

# Token 0 is the class token; the others are the patches, row by row.
heats = {
    block: on_grid(model, attention[0, :, 0, 1:].mean(axis=0))
    for block, attention in maps.items()
    if block.startswith("encoder_block")
}
heats["rollout"] = on_grid(model, attention_rollout(maps)[0, 0, 1:])
pixels = np.clip(image * preprocessing.std + preprocessing.mean, 0, 1)
plot_attention(pixels, heats).savefig(output, dpi=140)
