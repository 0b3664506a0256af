"""How long `import keras_t2t` takes beyond `import keras`: `python scripts/benchmark_import.py`.

Median of five fresh processes; the backend is the environment's.
"""

import statistics
import subprocess
import sys

TIMED = """
import time

import keras

start = time.perf_counter()
import keras_t2t

print(time.perf_counter() - start)
"""


def seconds():
    """Returns the import time in a process of its own, in seconds."""
    result = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return float(result.stdout.split()[-1])


if __name__ == "__main__":
    times = [seconds() for _ in range(5)]
    print(f"import keras_t2t: {statistics.median(times):.3f} s beyond import keras", end=" ")
    print(f"({min(times):.3f} to {max(times):.3f})")
