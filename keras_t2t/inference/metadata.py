"""What a model file says about itself, so that whoever loads it need not ask its maker."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_t2t.class_names import class_names
from keras_t2t.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np

# The name under which files carry it: an asset of a SavedModel, a file packed into a LiteRT model,
# a property of an ONNX model.
NAME = "keras_t2t.json"
LABELS_NAME = "labels.txt"
OUTPUTS = ("logits", "probabilities", "outputs")
Classes = tuple[tuple[str, str], ...]
Labels = str | Sequence[str] | None


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a model file says about itself.

    Args:
        name: Str, the model's name.
        output: `"logits"`, `"probabilities"` or `"outputs"`, what comes out.
        pixels: Bool, whether uint8 pixels go in, not images that are normalised.
        preprocessing: The `Preprocessing` that images need, or `None` if it is not known.
        classes: Tuple of (class id, name) in the order of the outputs, or `None`.
        precision: `"float32"`, `"float16"`, `"dynamic_int8"` or `"int8"`.
    """

    name: str
    output: str = "outputs"
    pixels: bool = False
    preprocessing: Preprocessing | None = None
    classes: Classes | None = None
    precision: str = "float32"

    def to_json(self) -> str:
        """The metadata as a JSON text."""
        return json.dumps({"keras_t2t": 1, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, path) -> "Metadata":
        """The metadata in a text that `to_json` wrote.

        Raises:
            ValueError: If the text is anything else; `path` is named in the message.
        """
        try:
            values = json.loads(text)
            if values.pop("keras_t2t") != 1:
                raise ValueError("of a later version")
            if values["preprocessing"] is not None:
                values["preprocessing"] = Preprocessing(**values["preprocessing"])
            if values["classes"] is not None:
                values["classes"] = tuple((str(key), str(name)) for key, name in values["classes"])
            metadata = cls(**values)
            if metadata.output not in OUTPUTS or not isinstance(metadata.pixels, bool):
                raise ValueError(f"output {metadata.output!r}, pixels {metadata.pixels!r}")
            return metadata
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}: its metadata, {NAME}, cannot be read ({error})") from None

    def files(self) -> dict[str, str]:
        """The texts that are packed into a model file, by name: the metadata and the labels."""
        labels = "".join(f"{name}\n" for _, name in self.classes or ())
        return {NAME: self.to_json()} | ({LABELS_NAME: labels} if labels else {})

    def taken(self, images: "np.ndarray") -> "np.ndarray":
        """Prepared images as the file takes them: in uint8 what they were made of, if `pixels`."""
        if not (self.pixels and self.preprocessing):
            return images
        import numpy as np

        mean = np.asarray(self.preprocessing.mean, "float32")
        std = np.asarray(self.preprocessing.std, "float32")
        return np.clip(np.round((images * std + mean) * 255.0), 0, 255).astype("uint8")


def classes_of(labels: Labels, count: int, name: str) -> Classes | None:
    """The classes of a model.

    Args:
        labels: As `class_names` takes them. `None` means ImageNet's for 1000 outputs.
        count: Int, the model's outputs.
        name: Str, the model's name.

    Returns:
        Tuple of (class id, name), or `None` if their names are not known.

    Raises:
        ValueError: If there is another number of labels, or their list is unknown.
    """
    if labels is None and count != 1000:
        return None
    classes = tuple(class_names("imagenet" if labels is None else labels))
    if len(classes) != count:
        raise ValueError(
            f"labels: expected {count}, one for each output of model {name!r}, got {len(classes)}"
        )
    return classes
