"""What all tests share: a fresh Keras for each, and which of them run on which backend."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Much of the time would go into optimising code that runs once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import keras
import pytest

from tests import parity


def pytest_addoption(parser):
    parser.addoption(
        "--everything",
        action="store_true",
        help="the long tests, each on every backend that it can run on, and all 14 variants",
    )


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests that are marked as not for this backend, or as too long.

    Out, not skipped: they run in another's process or by another option, and a skip is to mean that
    something is missing on this machine.
    """
    backend, everything = keras.backend.backend(), config.getoption("--everything")

    def runs(item):
        marks = {mark.name for mark in item.iter_markers()}
        if "long" in marks and not everything:
            return False
        if "tensorflow" in marks:
            return backend == "tensorflow"
        if backend == "torch":
            return "not_torch" not in marks
        return everything or "above_backends" not in marks

    config.hook.pytest_deselected(items=[item for item in items if not runs(item)])
    items[:] = [item for item in items if runs(item)]


def pytest_generate_tests(metafunc):
    """Runs a test that takes `parity_variant` once for each variant of this run."""
    if "parity_variant" in metafunc.fixturenames:
        everything = keras.backend.backend() == "torch"  # which compiles nothing
        everything = everything or metafunc.config.getoption("--everything")
        variants = parity.VARIANTS if everything else parity.EVERY_BACKEND_VARIANTS
        metafunc.parametrize("parity_variant", variants)


@pytest.fixture(autouse=True)
def fresh_keras():
    """Every test starts from float32, channels last, seed 0 and layer names that count from one."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")


@pytest.fixture(scope="module", autouse=True)
def memory_freed():
    """Collecting garbage takes a quarter of a second: once a module, not once a test."""
    yield
    keras.utils.clear_session()
