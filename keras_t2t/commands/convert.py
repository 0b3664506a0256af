"""`keras-t2t convert`."""

import contextlib
import logging
from pathlib import Path

from keras_t2t.commands.console import complain, load
from keras_t2t.commands.models import Labels, check_file, read_labels
from keras_t2t.files import refuse_existing
from keras_t2t.models.variants import list_variants
from keras_t2t.progress import printable, working
from keras_t2t.validation import one_of
from keras_t2t.weights.published import require_suffix


def run(
    source: str,
    destination: str,
    *,
    variant: str | None = None,
    labels: Labels = None,
    force: bool = False,
) -> int:
    """Convert weights: a published checkpoint to Keras, or a Keras model back.

    Args:
        source: A file of weights.
        destination: Ends in .weights.h5, .keras, .pth, .safetensors or .npz.
        variant: Variant of the source, where its keys and shapes do not tell.
        force: Replace an existing DESTINATION.
    """
    require_suffix(source, "source")
    require_suffix(destination, "destination")
    check_file(source)
    if variant is not None:
        one_of(variant, "variant", list_variants())
    refuse_existing(Path(destination).expanduser(), force)
    names = read_labels(labels)
    load("keras")
    from keras_t2t.zoo import convert

    with _printing_notes(), working(f"Converting {source}"):
        model = convert(source, destination, variant, force, names)
    print(f"{destination}: {printable(model.name)}, {model.count_params():,} parameters")
    return 0


@contextlib.contextmanager
def _printing_notes():
    """Prints what the package reports at INFO and above, such as what was left out."""

    class Printer(logging.Handler):
        def emit(self, record):
            complain("note", record.getMessage())

    logger, printer = logging.getLogger("keras_t2t"), Printer()
    level = logger.level
    logger.addHandler(printer)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(printer)
        logger.setLevel(level)
