"""`keras-t2t check-data`."""

from keras_t2t.commands import models
from keras_t2t.commands.console import load
from keras_t2t.progress import printable


def run(folder: str) -> int:
    """Look for undecodable images, empty classes, and classes that only one split has.

    Args:
        folder: An image folder, with train/ and val/.
    """
    models.check_data(folder)
    load("tensorflow")
    from keras_t2t.data.check import check_data

    images, problems = check_data(folder)
    number = 0
    for problem in problems:
        number += 1
        print(printable(problem), flush=True)
    print(f"{folder}: {images:,} image(s), {number:,} problem(s)")
    return 1 if number else 0
