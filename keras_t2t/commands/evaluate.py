"""`keras-t2t evaluate`."""

import json as json_module
from typing import Literal

from keras_t2t.commands.console import load
from keras_t2t.commands.models import AnyModel, Threads, Weights, check_data, open_predictor
from keras_t2t.commands.options import Positive


def run(
    model: AnyModel,
    *,
    data: str,
    weights: Weights = None,
    batch_size: Positive = 64,
    threads: Threads = None,
    bad_images: Literal["error", "skip"] = "error",
    json: bool = False,
) -> int:
    """Measure top-1 and top-5 accuracy on the validation images of a data set.

    Args:
        data: A data set: tfds:NAME, a prepared TFDS folder, or an image folder with val/.
        batch_size: Images at a time.
        bad_images: What to do about an image that cannot be read or decoded: "error" ends with its
            name; "skip" leaves it out, counts it and names it.
        json: Print one JSON object.

    Returns:
        The exit code: 0, or 1 if images were left out.
    """
    check_data(data)
    predictor = open_predictor(model, weights, None, batch_size, threads)
    load("tensorflow")  # which reads the images
    from keras_t2t.inference.evaluate import evaluate

    found = evaluate(predictor, data, batch_size, bad_images)
    if json:
        print(json_module.dumps({"model": model, "data": data, **found}))
    else:
        top5 = f"top-5 {found['top5']:.2%}, " if "top5" in found else ""
        skipped = f"{found['skipped']:,} left out, " if found["skipped"] else ""
        print(
            f"top-1 {found['top1']:.2%}, {top5}{found['images']:,} images, {skipped}"
            f"{found['images_per_second']:,.1f} images/s"
        )
    return int(found["skipped"] > 0)
