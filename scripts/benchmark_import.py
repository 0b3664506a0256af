"""How long the package and its command take to start: `python scripts/benchmark_import.py`.

Seconds of CPU of fresh processes, user and system, the best of five and their range.
"""

import resource
import subprocess
import sys

COMMANDS = {
    "python": "pass",
    "import keras_t2t": "import keras_t2t",
    **{
        f"keras-t2t {arguments}": "from keras_t2t.commands.main import main\n"
        f"main({arguments.split()})"
        for arguments in (
            "--version",
            "--help",
            "train --help",
            "export --help",
            "predict a.jpg --model t2t_vit_15",
            "train --epochs many",
            "export a.keras a.tflite --precision int4",
        )
    },
    "import keras": "import keras",
    "import keras, keras_t2t": "import keras, keras_t2t",
}


def seconds(code):
    """CPU seconds of a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    for name, code in COMMANDS.items():
        times = [seconds(code) for _ in range(5)]
        print(f"{name:50} {min(times):.2f} s ({min(times):.2f} to {max(times):.2f})", flush=True)
