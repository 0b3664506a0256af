#!/usr/bin/env python3
"""Fine-tunes a pretrained T2T-ViT on your own photos, and classifies one of them.

    python examples/finetune_image_folder.py photos runs/photos

`photos` holds `train/` and `val/`, each with a folder of images for every class.
"""

import sys
from pathlib import Path

from keras_t2t import Predictor, training

if len(sys.argv) != 3:
    sys.exit(__doc__)
photos, out = map(Path, sys.argv[1:])

recipe = training.finetune("t2t_vit_14")  # starts from the published ImageNet weights
model, history = training.train(recipe, photos, out)
print(f"top-1 {history[-1]['val_top1']:.2%}")

predictor = Predictor(out / "model.keras")  # which tells how images are prepared, and its classes
photo = next(path for path in sorted((photos / "val").rglob("*")) if path.is_file())
(probabilities,) = predictor.predict([photo])
_, name = predictor.classes[probabilities.argmax()]
print(f"{photo}: {name}")
