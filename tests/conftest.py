"""What all tests share: a fresh Keras for each, and which of them run on which backend."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Much of the time would go into optimising code that runs once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import pytest

from tests import parity


def pytest_addoption(parser):
    parser.addoption(
        "--all-variants",
        action="store_true",
        help="compare all 14 variants with the published numbers on JAX and torch too",
    )


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests that are marked as not for this backend.

    Out, not skipped: they run in another's process, and a skip is to mean that something is
    missing on this machine.
    """
    backend = keras.backend.backend()
    markers = {
        "tensorflow": (),
        "jax": ("tensorflow", "not_jax"),
        "torch": ("tensorflow", "not_torch"),
    }
    left_out = [
        item for item in items if any(item.get_closest_marker(name) for name in markers[backend])
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_generate_tests(metafunc):
    """Runs a test that takes `parity_variant` once for each variant of this run."""
    if "parity_variant" in metafunc.fixturenames:
        everything = keras.backend.backend() == "tensorflow"
        everything = everything or metafunc.config.getoption("--all-variants")
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
