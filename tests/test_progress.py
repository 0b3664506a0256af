"""Progress is shown on a terminal and nowhere else."""

import io
import sys

import pytest

from keras_t2t.progress import printable, progress, working


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.tensorflow  # no backend is used
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_progress(stream, monkeypatch):
    monkeypatch.setattr("tqdm.std.time", iter(range(0, 1000, 2)).__next__)  # a slow machine
    monkeypatch.setattr(sys, "stderr", stream())
    assert list(progress(iter("abc"), 3, "images")) == ["a", "b", "c"]
    with working("Writing a.tflite"):
        pass
    shown = sys.stderr.getvalue()
    if stream is Terminal:
        assert "3/3" in shown and "images" in shown and "Writing a.tflite ..." in shown
    else:
        assert shown == ""


@pytest.mark.tensorflow
def test_no_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with working("Writing"):
        pass


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "text, shown",
    [
        ("Füße, 猫 and 🐈\n", "Füße, 猫 and 🐈\n"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\x08\x00", r"a\rb\x08\x00"),
        ("\x9b31m", r"\x9b31m"),  # the same in one character
        ("gpj.\u202egnp", r"gpj.\u202egnp"),  # written backwards
        ("\udcff.jpg", r"\udcff.jpg"),  # a name that is no UTF-8
    ],
)
def test_what_drives_a_terminal_is_shown(text, shown):
    assert printable(text) == shown
