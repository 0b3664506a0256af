#!/usr/bin/env python3
"""Damages files of every kind that keras_t2t reads, and shows that each is read or refused well.

    python scripts/fuzz.py                                  # a minute for each kind
    python scripts/fuzz.py --kinds keras tflite --seconds 600 --seed 7

Bits flip; runs of bytes go, come twice, are zeros or noise; numbers become large; the end is cut.
Where a checksum would tell, every second file has one that is right: what is behind it is tried,
too. A reader may refuse with a ValueError or an OSError, in one line that names the file. All else
fails: another error, a crash, more than ten seconds, or a GiB of memory beyond the file. Such files
are kept, and the exit status is 1.
"""

import argparse
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "torch")  # it compiles nothing

ROOT = Path(__file__).resolve().parents[1]
SUBSET = ROOT / "examples/data/fashion_mnist_subset/1.0.0"
LONGEST_SECONDS, MOST_MEMORY = 10, 2**30
ARCHITECTURE = {
    "soft_splits": ((7, 4, 2), (3, 2, 1)),
    "token_dim": 8,
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 2,
    "classes": 4,
    "input_shape": (32, 32, 3),
}


def model():
    import keras_t2t

    return keras_t2t.create("t2t_vit_7", **ARCHITECTURE)


def arrays():
    import numpy as np

    return {"a.weight": np.arange(24, dtype="float32").reshape(4, 6), "a.bias": np.ones(4, "int64")}


# One function for each kind makes a file in a folder, and one reads it. Heavy packages are imported
# within: a process needs those of its kind only.


def make_keras(folder):
    model().save(folder / "a.keras")


def read_keras(path):
    from keras_t2t.weights.keras_files import read_model

    read_model(path)


def make_weights_h5(folder):
    model().save_weights(folder / "a.weights.h5")


def read_weights_h5(path):
    import keras_t2t

    keras_t2t.create("t2t_vit_7", weights=path, **ARCHITECTURE)


def make_checkpoint_file(suffix):
    def make(folder):
        from keras_t2t.weights.checkpoint import write_checkpoint
        from keras_t2t.weights.notes import Notes

        notes = Notes("t2t_vit_7", (32, 32, 3), (4, 4), class_names=("ant", "bee"))
        write_checkpoint(folder / f"a{suffix}", arrays(), notes=notes)

    return make


def make_plain_safetensors(folder):
    import safetensors.numpy

    metadata = {"keras_t2t": '{"variant": "t2t_vit_7", "grid": [4, 4]}'}
    safetensors.numpy.save_file(arrays(), folder / "a.safetensors", metadata)


def make_legacy_pth(folder):
    import torch

    state = {name: torch.from_numpy(array) for name, array in arrays().items()}
    torch.save({"state_dict": state}, folder / "a.pth", _use_new_zipfile_serialization=False)


def read_weights(path):
    from keras_t2t.weights.checkpoint import read_checkpoint, read_checkpoint_notes

    read_checkpoint(path)
    read_checkpoint_notes(path)


def make_checkpoint(folder):
    from keras_t2t.training.checkpoints import Checkpoints

    Checkpoints(folder).save(1, arrays(), {"step": 1})


def read_checkpoint_of_a_run(path):
    from keras_t2t.training.checkpoints import Checkpoints

    Checkpoints(path.parent).newest()


def make_exported(suffix):
    def make(folder):
        make_keras(folder)
        command = (
            "import sys; from keras_t2t.commands.main import main; sys.exit(main(sys.argv[1:]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", command, "export", folder / "a.keras", folder / f"a{suffix}"],
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr)
        (folder / "a.keras").unlink()

    return make


def read_exported(path):
    import numpy as np

    import keras_t2t

    keras_t2t.Predictor(path).scores(np.zeros((1, 32, 32, 3), "float32"))


def make_idx(folder):
    import gzip

    content = b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in (9, 28, 28)) + bytes(9 * 784)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))


def read_idx(path):
    from keras_t2t.data import idx

    idx.read_idx(path)


def make_image(suffix, **options):
    def make(folder):
        import numpy as np
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), "uint8")
        Image.fromarray(pixels.repeat(4, 0).repeat(4, 1)).save(folder / f"a{suffix}", **options)

    return make


def read_image(path):
    from keras_t2t.image_files import load_image

    load_image(path).load()


def make_tfds(folder):
    shutil.copytree(SUBSET, folder / "1.0.0")


def read_tfds(path):
    from keras_t2t.data import open_source

    open_source(path.parent, "validation")


def make_recipe(folder):
    from keras_t2t.training import save_recipe, small

    save_recipe(small(), folder / "recipe.yaml")


def read_recipe(path):
    from keras_t2t.training import load_recipe

    load_recipe(path)


KINDS = {
    "keras": (make_keras, read_keras),
    "weights.h5": (make_weights_h5, read_weights_h5),
    "safetensors": (make_checkpoint_file(".safetensors"), read_weights),
    "safetensors without checksum": (make_plain_safetensors, read_weights),
    "npz": (make_checkpoint_file(".npz"), read_weights),
    "pth": (make_checkpoint_file(".pth"), read_weights),
    "pth, legacy": (make_legacy_pth, read_weights),
    "checkpoint": (make_checkpoint, read_checkpoint_of_a_run),
    "tflite": (make_exported(".tflite"), read_exported),
    "onnx": (make_exported(".onnx"), read_exported),
    "idx": (make_idx, read_idx),
    "jpeg": (make_image(".jpg", quality=80, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"), read_image),
    "png": (make_image(".png"), read_image),
    "gif": (make_image(".gif"), read_image),
    "bmp": (make_image(".bmp"), read_image),
    "tiff": (make_image(".tif", compression="tiff_lzw"), read_image),
    "webp": (make_image(".webp"), read_image),
    "tfds": (make_tfds, read_tfds),
    "recipe": (make_recipe, read_recipe),
}


def damaged(content, rng):
    """Some bytes, damaged in one to four places."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not content:
            break
        place, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 64, 1024))
        part = slice(place, place + length)
        match rng.randrange(9):
            case 0 | 1:
                content[place] ^= 1 << rng.randrange(8)
            case 2:
                del content[part]
            case 3:
                content[place:place] = content[part]
            case 4:
                content[part] = rng.randbytes(len(content[part]))
            case 5:
                content[part] = rng.choice((b"\0", b"\xff", b"\x7f")) * len(content[part])
            case 6:
                del content[place:]
            case 7:
                numbers = list(re.finditer(rb"\d+", content[place : place + 2**12]))
                if numbers:
                    found = rng.choice(numbers)
                    content[place + found.start() : place + found.end()] = rng.choice(
                        (b"0", b"-1", b"1e999", b"9" * 20, str(2**31).encode(), b"null", b"[[1]]")
                    )
            case 8:
                size = rng.choice((2, 4, 8))
                number = rng.choice((2 ** (8 * size) - 1, 2 ** (8 * size - 1) - 1, 2**16 - 1))
                content[place : place + size] = number.to_bytes(size, rng.choice(("big", "little")))
    return bytes(content)


def damaged_behind_its_checksum(content, rng):
    """The same, but so that no checksum tells of it."""
    from keras_t2t.seal import SEAL, sealed

    mark = content.rfind(SEAL)
    if content.startswith(b"PK"):
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
            chosen = rng.choice(old.namelist())
            for name in old.namelist():
                part = old.read(name)
                new.writestr(name, damaged(part, rng) if name == chosen else part)
        return sealed(packed.getvalue() + SEAL) if mark >= 0 else packed.getvalue()
    return damaged(content[:mark], rng) if mark >= 0 else damaged(content, rng)


def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def try_one(read, path, content):
    """How a reader takes a file: "read", "refused" or, with the reason, "failed"."""
    path.write_bytes(content)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak of memory starts from now
    before = memory("VmRSS")
    try:
        read(path)
        outcome = "read"
    except (OSError, ValueError) as error:
        text = str(error)
        named = path.name in text or path.parent.name in text
        outcome = "refused" if named and "\n" not in text else f"failed: {type(error)} {text!r}"
    except Exception as error:
        outcome = f"failed: {type(error).__name__}: {error!r}"
    if memory("VmHWM") - before > MOST_MEMORY + len(content):
        outcome = f"failed: {(memory('VmHWM') - before) / 2**30:.1f} GiB of memory"
    return outcome


def child(kinds, scratch, seed, seconds):
    """Tries files of each kind in turn; prints [kind, number, outcome] as JSON, a line for each."""
    import logging
    import warnings

    logging.disable()
    warnings.simplefilter("ignore")
    for kind in kinds:
        make, read = KINDS[kind]
        folder = scratch / kind
        folder.mkdir()
        print(json.dumps([kind, 0, "made"]), flush=True)
        make(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        originals = {path: path.read_bytes() for path in paths}
        for path in paths[:1]:
            read(path)  # what is imported once does not count
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            rng, number = random.Random(f"{seed} {kind} {number}"), number + 1
            path = rng.choice(paths)
            damage = damaged_behind_its_checksum if number % 2 else damaged
            content = damage(originals[path], rng)
            (scratch / "tried").write_bytes(content)
            signal.alarm(LONGEST_SECONDS)  # ends the process, whatever it is in
            outcome = try_one(read, path, content)
            signal.alarm(0)
            if outcome.startswith("failed"):
                (scratch / f"{kind}-{number}").write_bytes(content)
            for place in folder.rglob("*.damaged"):
                place.unlink()
            path.write_bytes(originals[path])
            print(json.dumps([kind, number, outcome]), flush=True)


def fuzz(kinds, options):
    """{kind: counts of the outcomes}; prints what failed and keeps such files."""
    counts = {kind: Counter() for kind in kinds}
    left = [*kinds]
    while left:
        with (
            tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryFile("w+") as messages,
            subprocess.Popen(
                [sys.executable, __file__, "--seconds", str(options.seconds)]
                + ["--seed", str(options.seed), "--child", folder, "--kinds", *left],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
            ) as process,
        ):
            kind, number = left[0], 0
            for line in process.stdout:
                if not line.startswith("["):  # a library's own
                    continue
                kind, number, outcome = json.loads(line)
                if outcome != "made":
                    counts[kind][outcome.split(":")[0]] += 1
                if outcome.startswith("failed"):
                    print(f"{kind}, file {number}: {outcome[:400]}", flush=True)
            left = left[left.index(kind) + 1 :] if process.wait() else []
            if process.returncode > 0:
                messages.seek(0)
                sys.exit(
                    f"{kind}: what is whole cannot be made or read:\n{messages.read()[-3000:]}"
                )
            if process.returncode < 0:  # of this kind no more are tried
                name = signal.Signals(-process.returncode).name.replace("SIGALRM", "over 10 s")
                counts[kind]["failed"] += 1
                print(f"{kind}, file {number + 1}: failed: {name}", flush=True)
                os.rename(f"{folder}/tried", f"{folder}/{kind}-{number + 1}")
            for path in Path(folder).glob("*-[0-9]*"):
                shutil.copy(path, options.out)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=[*KINDS], choices=KINDS, metavar="KIND")
    parser.add_argument("--seconds", type=float, default=60, help="for each kind (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("fuzz"), help="folder of the files that fail"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.kinds, options.child, options.seed, options.seconds)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    counts = fuzz(options.kinds, options)
    print(f"{'kind':30} {'tried':>8} {'refused':>8} {'read':>8} {'failed':>8}")
    for kind, count in counts.items():
        figures = [count.total(), *(count[name] for name in ("refused", "read", "failed"))]
        print(f"{kind:30} " + " ".join(f"{figure:8,}" for figure in figures))
    sys.exit(any(count["failed"] for count in counts.values()))


if __name__ == "__main__":
    main()
