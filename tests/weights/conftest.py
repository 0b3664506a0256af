"""A published file made from the parity data, and a server on loopback that fails on demand."""

import dataclasses
import hashlib
import http.server
import re
import threading

import pytest

import keras_t2t
from keras_t2t.weights import download
from keras_t2t.weights.published import find
from tests.parity import reference_state_dict


@pytest.fixture(scope="session")
def state():
    return reference_state_dict("t2t_vit_7")


@pytest.fixture(scope="session")
def content(state, tmp_path_factory):
    """Bytes of a PyTorch file as published."""
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("published") / "file"
    torch.save({"state_dict_ema": {k: torch.from_numpy(v) for k, v in state.items()}}, path)
    return path.read_bytes()


@pytest.fixture(scope="session")
def entry(content):
    """A row of the table, of that file."""
    digest = hashlib.sha384(content).hexdigest()
    return dataclasses.replace(find("t2t_vit_7", "imagenet"), size=len(content), sha384=digest)


@pytest.fixture(scope="session")
def predict():
    """Logits of any t2t_vit_7, by one model: compiling takes longer than all else."""
    compiled = keras_t2t.T2TViT7(classifier_activation=None)

    def predict(model, images):
        compiled.set_weights(model.get_weights())
        return compiled.predict(images, verbose=0)

    return predict


@dataclasses.dataclass
class Answer:
    """How the server answers one request."""

    status: int | None = None  # an error, without content
    sends: int | None = None  # bytes after which the connection ends
    stalls: bool = False  # then it stays open instead, in silence
    piece: int = 1 << 20  # bytes
    pause: float = 0.0  # seconds between pieces
    length: int | None = None  # of Content-Length, if it is not to be the truth
    framing: str = "length"  # or "chunked", or "none"


class Server:
    """Serves `content` under every name. `answers` are used up, one a request; then all is well."""

    def __init__(self, content):
        self.content = content
        self.validators = {"ETag": '"v1"'}
        self.ranges = True  # whether Range is honoured
        self.if_range = True  # whether If-Range is
        self.answers = []
        self.requests = []  # headers of each
        self.stalled = threading.Event()
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/main"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.owner
        server.requests.append(self.headers)
        answer = server.answers.pop(0) if server.answers else Answer()
        self.close_connection = True
        if answer.status:
            self.send_error(answer.status)
            return
        data, total = server.content, len(server.content)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        known = self.headers.get("If-Range") in (None, *server.validators.values())
        if wanted and server.ranges and (known or not server.if_range):
            start = int(wanted[1])
            if start >= total:
                self.send_error(416)
                return
            data = data[start:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        for name, value in server.validators.items():
            self.send_header(name, value)
        if answer.framing == "length":
            self.send_header("Content-Length", str(answer.length or len(data)))
        elif answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send(answer, data)

    def _send(self, answer, data):
        whole = answer.sends is None
        data = data if whole else data[: answer.sends]
        try:
            for start in range(0, len(data), answer.piece):
                piece = data[start : start + answer.piece]
                if answer.framing == "chunked":
                    piece = b"%x\r\n%s\r\n" % (len(piece), piece)
                self.wfile.write(piece)
                self.owner.closing.wait(answer.pause)
            if answer.framing == "chunked" and whole:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client went away
            return
        if answer.stalls:
            self.owner.stalled.set()
            self.owner.closing.wait(60)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    """The server, in place of the published address, with an empty cache folder."""
    server = Server(content)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_T2T_WEIGHTS_URL", server.url)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    yield server
    server.close()


@pytest.fixture
def answer():
    return Answer
