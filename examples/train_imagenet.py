#!/usr/bin/env python3
"""Trains T2T-ViT-14 on ImageNet by the published recipe, on all GPUs of the machine.

    python examples/train_imagenet.py /data/imagenet runs/t2t_vit_14

The first folder holds `train/` and `val/`. Run the same command again after an interruption.
"""

import dataclasses
import sys

from keras_t2t import training

if len(sys.argv) != 3:
    sys.exit(__doc__)
data, out = sys.argv[1:]

recipe = training.published("t2t_vit_14")
# The published code trains in float32. bfloat16 is about twice as fast on a GPU that has it.
recipe = dataclasses.replace(recipe, precision="mixed_bfloat16")

model, history = training.train(recipe, data, out)
print(f"top-1 {history[-1]['val_top1']:.2%}, averaged weights {history[-1]['ema_val_top1']:.2%}")
