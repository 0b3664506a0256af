#!/usr/bin/env python3
"""How fast T2T-ViT runs and trains, beside other runtimes and the limit that arithmetic sets.

    python scripts/benchmark.py --batch-sizes 1 8                              # inference
    python scripts/benchmark.py --modes train --runtimes tensorflow jax torch  # a training step
    python scripts/benchmark.py --runtimes jax --dtypes bfloat16 --batch-sizes 256 --modes train
    python scripts/benchmark.py --against ../release --networks t2t_vit plain  # beside a release

Each case runs in a process of its own; those that belong together (one variant, batch, image size,
dtype and mode) take turns, so that what else the machine does meets them all alike. Printed are the
median and the quartiles of the seconds of a step, images a second, the time against the fastest of
the group, the share of the limit (the network's matrix products, forward and backward, timed alone
in turn with the others, with the same backend and dtype, over the step's time), the share of the
peak (those products over what `peak` computes in the step's time) and the largest memory. Below
stands what each network takes in proportion to `t2t_vit`, turn by turn: median and quartiles.

Networks: `t2t_vit` as `keras_t2t.fuse` gives it (0.1.0's comes so by itself); `plain`, without it;
`without:FORM`, without one form of the rewrite, or without several, `without:FORM+FORM`; `stem`,
all before the encoder; `limit`, the products alone (each block in full, as published); `peak`, one
large square product; `vit_small`, KerasHub's ViT-S/16, for scale.
Other runtimes (inference only) run the ONNX file of `plain`. What needs a package that is not
installed is left out.
"""

import argparse
import importlib.util
import itertools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_t2t.extras import require
from keras_t2t.models.variants import list_variants

SCRIPTS = Path(__file__).resolve().parent
BACKENDS = ("tensorflow", "jax", "torch")
RUNTIMES = (*BACKENDS, "onnxruntime", "openvino")
NETWORKS = ("t2t_vit", "plain", "stem", "limit", "peak", "vit_small", "without")
# Networks of products alone, which compete with nothing.
PRODUCTS = ("limit", "peak")
# Modules that runtimes and networks import, and what to install for them.
NEEDS = {
    "jax": {"jax": "keras_t2t[jax]"},
    "torch": {"torch": "keras_t2t[torch]"},
    "onnxruntime": {"onnxruntime": "keras_t2t[export]", "tf2onnx": "keras_t2t[export]"},
    "openvino": {"openvino": "openvino", "tf2onnx": "keras_t2t[export]"},
    "vit_small": {"keras_hub": "keras-hub"},
}
SECONDS = 0.5  # the least that a case measures at each of its turns


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    several = {"nargs": "+"}
    parser.add_argument("--variants", default=["t2t_vit_14"], **several)
    parser.add_argument("--image-sizes", default=[224], type=positive, **several)
    parser.add_argument("--batch-sizes", default=[8], type=positive, **several)
    parser.add_argument("--modes", default=["infer"], choices=("infer", "train"), **several)
    parser.add_argument(
        "--dtypes", default=["float32"], choices=("float32", "bfloat16", "float16"), **several
    )
    parser.add_argument("--runtimes", default=list(RUNTIMES), choices=RUNTIMES, **several)
    parser.add_argument(
        "--networks",
        default=["t2t_vit", "limit"],
        metavar="NETWORK",
        help=f"of {', '.join(NETWORKS)}:FORM",
        **several,
    )
    parser.add_argument(
        "--jit",
        choices=("on", "off"),
        help="compile, of Keras (default on; off on torch, which compiles for minutes and then "
        "runs no faster)",
        **several,
    )
    parser.add_argument(
        "--environments",
        default=[""],
        type=environment,
        metavar="NAME=VALUE",
        help="environment variables, several in one argument as for a shell; each backend runs in "
        'each of them ("" is none)',
        **several,
    )
    parser.add_argument("--against", help="folder of another checkout, to run beside this one")
    parser.add_argument("--rounds", default=10, type=positive, help="turns of each case")
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--plot", help="PNG of the time against the image size")
    options = parser.parse_args(argv)
    # All that can be said before the first case runs.
    check_names(parser, "variants", options.variants, list_variants())
    check_networks(parser, options.networks)
    for path in filter(None, (options.json, options.plot)):
        if not Path(path).absolute().parent.is_dir():
            parser.error(f"there is no folder {Path(path).parent}")
    if options.against and not Path(options.against, "keras_t2t").is_dir():
        parser.error(f"argument --against: no checkout: {options.against}")
    options.runtimes = installed(options.runtimes)
    options.networks = installed(options.networks)
    if not options.networks or not any(groups(options)):
        parser.error("nothing is left to measure")
    if options.plot:
        if not {"t2t_vit", "stem"} & {
            case["network"] for case in itertools.chain(*groups(options))
        }:
            parser.error("argument --plot: draws the networks t2t_vit and stem, and neither is run")
        try:
            require("plot", "matplotlib")
        except ImportError as error:
            parser.error(f"argument --plot: {error}")
    return options


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def environment(text):
    if not all(part.find("=") > 0 for part in shlex.split(text)):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return text


def check_names(parser, option, names, choices):
    for name in names:
        if name not in choices:
            parser.error(f"argument --{option}: expected of {', '.join(choices)}, got {name!r}")


def check_networks(parser, networks):
    check_names(parser, "networks", [name.partition(":")[0] for name in networks], NETWORKS)
    without = [name.removeprefix("without:") for name in networks if name.startswith("without")]
    if without:
        from keras_t2t.rewrite import FORMS

        check_names(
            parser, "networks", [form for name in without for form in name.split("+")], FORMS
        )


def installed(names):
    """Those runtimes or networks whose packages are installed; tells what the others need."""
    found = []
    for name in names:
        missing = [
            package
            for module, package in NEEDS.get(name, {}).items()
            if importlib.util.find_spec(module) is None
        ]
        if missing:
            print(f"{name}: left out, needs `pip install {' '.join(missing)}`")
        else:
            found.append(name)
    return found


def groups(options):
    """The cases, those that take turns together."""
    for variant, size, batch, dtype, mode in itertools.product(
        options.variants, options.image_sizes, options.batch_sizes, options.dtypes, options.modes
    ):
        shared = {
            "variant": variant,
            "image_size": size,
            "batch": batch,
            "dtype": dtype,
            "mode": mode,
        }
        cases = []
        for runtime, network in itertools.product(options.runtimes, options.networks):
            if runtime not in BACKENDS:
                if network == options.networks[0] and mode == "infer" and dtype == "float32":
                    cases.append(
                        {"runtime": runtime, "network": "plain", "folder": str(SCRIPTS.parent)}
                    )
                continue
            folders = [str(SCRIPTS.parent)]
            if options.against and network == "t2t_vit":
                folders.append(str(Path(options.against).resolve()))
            jits = options.jit or ["off" if runtime == "torch" else "on"]
            if network in PRODUCTS:  # single operations, compiled or not
                jits = ["on"]
            for jit, variables, folder in itertools.product(jits, options.environments, folders):
                cases.append(
                    {
                        "runtime": runtime,
                        "network": network,
                        "jit": jit == "on",
                        "environment": variables,
                        "folder": folder,
                    }
                )
        yield [{**shared, **case} for case in cases]


class Worker:
    """A case in a process of its own."""

    def __init__(self, case):
        self.case, self.turns, self.information = case, [], {}
        command = [sys.executable, "-m", "benchmarking.worker", json.dumps(case)]
        self.process = subprocess.Popen(
            command,
            env=variables_of(case),
            cwd=SCRIPTS,  # -m puts the working folder before all others
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.case}: {self.process.communicate()[1][-3000:]}")
        return json.loads(line)

    def turn(self):
        self.process.stdin.write(f"{SECONDS}\n")
        self.process.stdin.flush()
        self.information = self.answer()
        self.turns.append(self.information.pop("seconds"))

    def stop(self):
        self.process.communicate()


def variables_of(case):
    added = {
        "PYTHONPATH": f"{case['folder']}{os.pathsep}{SCRIPTS}",
        # An accelerator is shared by all workers of a group.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "KERAS_BACKEND": case["runtime"] if case["runtime"] in BACKENDS else "tensorflow",
    }
    asked = dict(pair.split("=", 1) for pair in shlex.split(case.get("environment", "")))
    return {**os.environ, **asked, **added}


def measure(cases, rounds):
    """Rows of figures, one for each case, measured in turns."""
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(cases, Path(folder))
        workers = [Worker(case) for case in cases]
        try:
            for worker in workers:
                worker.answer()
            for _ in range(rounds):
                for worker in workers:
                    worker.turn()
        finally:
            for worker in workers:
                worker.stop()
    rows = []
    for worker in workers:
        seconds = list(itertools.chain(*worker.turns))
        low, median, high = quartiles(seconds)
        rows.append(
            {
                **{key: value for key, value in worker.case.items() if key != "onnx"},
                "seconds": median,
                "quartiles": (low, high),
                "steps": len(seconds),
                "images_per_second": worker.case["batch"] / median,
                **worker.information,
            }
        )
    medians = [[statistics.median(turn) for turn in worker.turns] for worker in workers]
    for row, turns in zip(rows, medians, strict=True):
        if row["network"].partition(":")[0] in ("t2t_vit", "plain", "without"):
            compare(row, turns, rows, medians)
    return rows


def compare(row, turns, rows, medians):
    """Notes in a whole network's row how it compares with others of its runtime.

    Args:
        row: Its row of figures.
        turns: Its median seconds in each turn.
        rows, medians: The same of all cases of the group.
    """
    for other, others in zip(rows, medians, strict=True):
        if any(other.get(key) != row.get(key) for key in ("runtime", "environment")):
            continue
        if other["network"] == "limit":
            row["share_of_limit"] = other["seconds"] / row["seconds"]
        elif other["network"] == "peak":
            peak_seconds = other["seconds"] * other["network_flops"] / other["flops"]
            row["share_of_peak"] = peak_seconds / row["seconds"]
        elif other is not row and is_ours(other) and other.get("jit") == row.get("jit"):
            row["to_t2t_vit"] = quartiles([a / b for a, b in zip(turns, others, strict=True)])


def is_ours(row):
    return row["network"] == "t2t_vit" and row["folder"] == str(SCRIPTS.parent)


def quartiles(values):
    return statistics.quantiles(values if len(values) > 1 else 2 * values, n=4)


def write_onnx(cases, folder):
    """Writes the network for the other runtimes, and notes the path in their cases."""
    path = str(folder / "network.onnx")
    foreign = [case for case in cases if case["runtime"] not in BACKENDS]
    for case in foreign:
        case["onnx"] = path
    if foreign:
        command = [sys.executable, "-m", "benchmarking.onnx_file", json.dumps(foreign[0]), path]
        done = subprocess.run(
            command, env=variables_of(foreign[0]), cwd=SCRIPTS, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr[-3000:])


def report(rows):
    first = rows[0]
    print(
        f"\n{first['variant']}, {first['image_size']} px, batch {first['batch']}, "
        f"{first['dtype']}, {first['mode']}"
    )
    print(
        f"{'':48}{'ms':>9}  {'quartiles':>17}{'images/s':>10}{'ratio':>7}{'limit':>7}{'peak':>7}"
        f"{'MiB':>8}"
    )
    fastest = min(
        (row["seconds"] for row in rows if row["network"] not in (*PRODUCTS, "stem")),
        default=rows[0]["seconds"],
    )
    for row in rows:
        low, high = (f"{1000 * value:.1f}" for value in row["quartiles"])
        shares = "".join(
            f"{row[key]:7.0%}" if key in row else " " * 7
            for key in ("share_of_limit", "share_of_peak")
        )
        memory = row.get("peak_device", row["peak_rss"]) / 2**20
        print(
            f"{title(row):48}{1000 * row['seconds']:9.1f}  {low:>7} - {high:>7}"
            f"{row['images_per_second']:10.1f}{row['seconds'] / fastest:7.2f}"
            f"{shares}{memory:8.0f}  {row.get('environment', '')}".rstrip(),
            flush=True,
        )
    compared = [row for row in rows if "to_t2t_vit" in row]
    if compared:
        print(f"{'time over that of t2t_vit, turn by turn':48}{'median':>9}  {'quartiles':>17}")
    for row in compared:
        low, median, high = row["to_t2t_vit"]
        print(
            f"{title(row):48}{median:9.3f}  {low:7.3f} - {high:7.3f}  "
            f"{row.get('environment', '')}".rstrip(),
            flush=True,
        )


def title(row):
    parts = [row["runtime"], row["network"]]
    if "flops" in row:
        parts.append(f"{row['flops'] / row['seconds'] / 1e12:.3g} TFLOP/s")
    if row["network"] not in PRODUCTS and row["runtime"] in BACKENDS:
        parts.append("jit" if row["jit"] else "no jit")
    if row["folder"] != str(SCRIPTS.parent):
        parts.append(Path(row["folder"]).name)
    return ", ".join(parts)


def main():
    options = arguments()
    rows = []
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    for cases in filter(None, groups(options)):
        group = measure(cases, options.rounds)
        report(group)
        rows += group
        if options.json:
            Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    if options.plot:
        from benchmarking.plot import plot

        plot(rows).savefig(options.plot, dpi=150)


if __name__ == "__main__":
    main()
