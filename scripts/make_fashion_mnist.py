#!/usr/bin/env python3
"""Makes examples/data/fashion_mnist_subset: a stratified Fashion-MNIST subset as TFDS prepares it.

The source is the four IDX files of Fashion-MNIST, gzipped, in a folder or under a web address:

    sudo apt-get install dataset-fashion-mnist
    python scripts/make_fashion_mnist.py --source /usr/share/datasets/fashion-mnist
    python scripts/make_fashion_mnist.py \\
        --source http://fashion-mnist.s3-website.eu-central-1.amazonaws.com

The same source and seed give the same files, byte for byte, with the same TensorFlow.
"""

import argparse
import gzip
import hashlib
import os
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np

from keras_t2t.data.idx import IDX_FILES, parse_idx

DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "examples/data/fashion_mnist_subset"
FILES = {"train": IDX_FILES["train"], "test": IDX_FILES["validation"]}
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
HOMEPAGE = "https://github.com/zalandoresearch/fashion-mnist"
CITATION = """\
@online{xiao2017/online,
  author     = {Han Xiao and Kashif Rasul and Roland Vollgraf},
  title      = {Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms},
  date       = {2017-08-28},
  eprint     = {cs.LG/1708.07747},
}"""
LICENSE = """\
The MIT License (MIT)

Copyright © 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
README = """\
# A subset of Fashion-MNIST

{train:,} training and {test:,} test images of Fashion-MNIST, 28 x 28 pixels, grey, the ten classes
equally often in each split. The test images come from the original test split. TFDS's prepared
format, so that nothing is downloaded:

```python
import tensorflow_datasets as tfds

builder = tfds.builder_from_directory("examples/data/fashion_mnist_subset/{version}")
train = builder.as_dataset(split="train", as_supervised=True)
names = builder.info.features["label"].names
```

Source: Fashion-MNIST by Han Xiao, Kashif Rasul and Roland Vollgraf, Zalando SE
({homepage}), under the MIT licence: see [LICENSE](LICENSE).

## How it was made

`python scripts/make_fashion_mnist.py --source FOLDER --seed {seed}` chose the images of each class
at random (seed {seed}) and stored their pixels, unchanged, as PNG. The source files were these
(SHA-256 of the unpacked content, since the gzip wrapping differs between distributors):

{digests}
"""


def read_source(source, name):
    """Returns the unpacked bytes of the gzipped file `name` in a folder or under a web address."""
    try:
        if urllib.parse.urlsplit(str(source)).scheme in ("http", "https"):
            where = f"{str(source).rstrip('/')}/{name}"
            print(f"downloading {where}", flush=True)
            with urllib.request.urlopen(where, timeout=60) as response:
                packed = response.read()
        else:
            where = Path(source) / name
            packed = where.read_bytes()
        return gzip.decompress(packed)
    except urllib.error.URLError as error:
        raise ValueError(f"--source: could not download {where}: {error}") from error
    except FileNotFoundError as error:
        raise ValueError(
            f"--source: {where} does not exist. Expected a folder or a web address with the files "
            f"{', '.join(sum(FILES.values(), ()))}; on Debian the package dataset-fashion-mnist "
            f"puts them into {DEBIAN_FOLDER}."
        ) from error
    except (OSError, EOFError) as error:
        raise ValueError(f"--source: {where} is not a complete gzip file: {error}") from error


def read_split(source, split, digests):
    """Returns images (n, 28, 28), labels (n,) of a split, and notes the files' SHA-256."""
    image_file, label_file = FILES[split]
    arrays = []
    for name in (image_file, label_file):
        data = read_source(source, name)
        digests[name] = hashlib.sha256(data).hexdigest()
        arrays.append(parse_idx(data, name))
    images, labels = arrays
    if images.shape[1:] != (28, 28):
        raise ValueError(f"{image_file}: expected images of (28, 28), got {images.shape[1:]}.")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{label_file}: {labels.size} labels for {len(images)} images.")
    if labels.max(initial=0) >= len(CLASS_NAMES):
        raise ValueError(f"{label_file}: expected labels from 0 to 9, got {labels.max()}.")
    return images, labels


def choose(labels, size, seed):
    """Returns `size` indices in rising order, drawn at random, every class equally often."""
    each, rest = divmod(size, len(CLASS_NAMES))
    if rest:
        raise ValueError(f"the subset's size must be a multiple of {len(CLASS_NAMES)}, got {size}.")
    generator = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(CLASS_NAMES):
        candidates = np.flatnonzero(labels == label)
        if len(candidates) < each:
            raise ValueError(f"{each} images of class {name!r} needed, got {len(candidates)}.")
        chosen.append(generator.choice(candidates, each, replace=False))
    return np.sort(np.concatenate(chosen))


def write_tfds(folder, splits):
    """Writes {split: (indices, images, labels)} below `folder`; returns the version written."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()

    class FashionMnistSubset(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description="A stratified subset of Fashion-MNIST (MIT licence, Zalando SE).",
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
                        "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage=HOMEPAGE,
                citation=CITATION,
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(*data) for split, data in splits.items()}

        def _generate_examples(self, indices, images, labels):
            # TFDS orders the examples by a hash of the key, so classes come well mixed.
            for index, image, label in zip(indices, images, labels, strict=True):
                yield int(index), {"image": image[..., None], "label": int(label)}

    builder = FashionMnistSubset(data_dir=folder)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return str(builder.version)


def make(source, out, train=10_000, test=2_000, seed=0, force=False):
    """Writes the subset and returns its TFDS folder, `out`/VERSION.

    Args:
        source: str or path, the folder or web address that holds the four .gz files.
        out: path, the folder to make.
        train, test: int, number of images of each split, multiples of ten.
        seed: int, of the random choice.
        force: bool, replace `out` if it is there.

    Raises:
        ValueError: for a source that lacks a file, or holds one that is damaged or too small.
        FileExistsError: if `out` is there and `force` is False.
    """
    out = Path(out).resolve()
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already; --force replaces it.")
    splits, digests = {}, {}
    for split, size in (("train", train), ("test", test)):
        images, labels = read_split(source, split, digests)
        indices = choose(labels, size, seed)
        splits[split] = (indices, images[indices], labels[indices])

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        version = write_tfds(temporary, splits)
        # TFDS names the folder after the builder's class; here it gets the name asked for.
        made = Path(temporary) / "fashion_mnist_subset"
        (made / "LICENSE").write_text(LICENSE, encoding="utf-8")
        readme = README.format(
            train=train,
            test=test,
            seed=seed,
            version=version,
            homepage=HOMEPAGE,
            digests="\n".join(f"- `{name}`: `{digest}`" for name, digest in digests.items()),
        )
        (made / "README.md").write_text(readme, encoding="utf-8")
        if out.exists():
            out.rename(Path(temporary) / "replaced")
        made.rename(out)
    return out / version


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source",
        default=DEBIAN_FOLDER,
        metavar="FOLDER|URL",
        help="where the four .gz files are (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    options = parser.parse_args(arguments)
    try:
        folder = make(options.source, options.out, seed=options.seed, force=options.force)
    except (ValueError, FileExistsError) as error:
        sys.exit(f"make_fashion_mnist.py: {error}")
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"wrote {folder} ({size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
