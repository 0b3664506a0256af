"""`keras-t2t predict`."""

import json as json_module
import sys

from keras_t2t.commands.console import complain
from keras_t2t.commands.models import AnyModel, Labels, Weights, open_predictor
from keras_t2t.commands.options import Positive
from keras_t2t.image_files import find_images
from keras_t2t.progress import printable, progress


def run(
    images: list[str],
    *,
    model: AnyModel,
    weights: Weights = None,
    top: Positive = 5,
    labels: Labels = None,
    batch_size: Positive = 16,
    json: bool = False,
) -> int:
    """Print the most probable classes of images.

    Args:
        images: A file, a folder or a quoted glob pattern.
        top: Classes to name for each image.
        batch_size: Images at a time.
        json: Print one JSON object for each image.
    """
    files, problems = find_images(images)
    for problem in problems:
        complain("skipped", problem)
    code = 1 if problems else 0
    if not files:
        return code
    predictor = open_predictor(model, weights, labels, batch_size)
    from keras_t2t.inference.predict import predict_images

    results = predict_images(predictor, files, top, batch_size=batch_size)
    # On a terminal the results themselves show how far it is.
    for result in results if sys.stdout.isatty() else progress(results, len(files), "images"):
        if "error" in result:
            code = 1
            complain("skipped", result["error"])
        if json:
            print(json_module.dumps(result))
        elif "predictions" in result:
            print(printable(result["image"]))
            for line in result["predictions"]:
                name, key = printable(line["name"].replace("_", " ")), printable(line["class"])
                print(f"  {line['probability']:8.2%}  {name:30}  {key}")
    return code
