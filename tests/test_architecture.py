"""The rooms of the package and the arrows between them, which point downwards only.

`python -m tests.test_architecture` prints them, with the lines of code of each room.
"""

import ast
import collections
import dataclasses
import functools
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow  # no backend is used

ROOT = Path(__file__).parents[1]
PACKAGE = "keras_t2t"
# From the ground up. A room imports rooms of floors below its own, and itself.
FLOORS = (
    (
        "extras",
        "files",
        "limits",
        "seal",
        "compat",
        "validation",
        "progress",
        "moved",
        "image_files",
    ),
    ("class_names", "preprocessing"),
    ("layers", "preprocessing_layer"),
    ("models",),
    ("rewrite",),
    ("weights",),
    ("zoo", "data"),
    ("inference", "training"),
    ("exporting", "inspection"),
    ("commands",),
    # The package itself: its public names, and what Keras finds in files.
    ("__init__", "registration"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# It knows no model.
DATA_MAY_IMPORT = {room for rooms in FLOORS[:2] for room in rooms}

# What the command line needs before it knows what is asked.
WITHOUT_KERAS = (
    "__init__",
    "class_names",
    "data.augment",
    "extras",
    "files",
    "image_files",
    "limits",
    "models.variants",
    "moved",
    "preprocessing",
    "progress",
    "training.options",
    "training.recipe",
    "validation",
    "weights.published",
)
HEAVY = ("keras", "keras_cv", "tensorflow", "tensorflow_datasets", "torch", "jax", "matplotlib")

# Names that begin with an underscore and are public: those of named tuples, and one of `os`.
PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}
INTERNAL = ("keras.src", "tensorflow.python")


@dataclasses.dataclass(frozen=True)
class Module:
    """A file of the package, and the names that it imports from there."""

    path: Path
    name: str  # As in "models.graph"; a room's own `__init__` is called as the room.
    tree: ast.Module

    @property
    def room(self):
        return self.name.partition(".")[0]

    @property
    def imports(self):
        """Pairs (line, module of this package), late imports and names in strings too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, found) for a in node.names for found in own(a.name))
            elif isinstance(node, ast.ImportFrom):
                source = self.absolute(node)
                for alias in node.names:
                    yield from ((node.lineno, found) for found in own(f"{source}.{alias.name}"))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # As lazy imports write it.
                if node.value.replace(".", "").replace(":", "").isidentifier():
                    for name in own(node.value.partition(":")[0]):
                        if name != "__init__" and name.partition(".")[0] in FLOOR:
                            yield node.lineno, name

    def absolute(self, node):
        if not node.level:
            return node.module
        package = [PACKAGE, *(part for part in self.name.split(".") if part != "__init__")]
        if self.path.stem != "__init__":
            package.pop()
        package = package[: len(package) + 1 - node.level]
        return ".".join([*package, node.module] if node.module else package)


def own(dotted):
    """The module of this package that a name is or is in, if any."""
    package, _, name = dotted.partition(".")
    if package != PACKAGE:
        return ()
    parts = name.split(".")
    # `from keras_t2t import __version__` takes nothing of the rooms.
    return () if parts == ["__version__"] else (".".join(parts[:2]) or "__init__",)


@functools.cache
def modules(root=ROOT):
    found = []
    for path in sorted((root / PACKAGE).rglob("*.py*")):
        if path.suffix in (".py", ".pyi"):
            parts = path.relative_to(root / PACKAGE).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)
            found.append(Module(path, name, ast.parse(path.read_text())))
    return found


def arrows(root=ROOT):
    """`{(room, room imported): ["file:line", ...]}` between different rooms."""
    found = collections.defaultdict(list)
    for module in modules(root):
        for line, name in module.imports:
            room = name.partition(".")[0]
            if room not in FLOOR and module.room in FLOOR and name != "__init__":
                room = "__init__"  # A public name, taken from the package itself.
            if room != module.room:
                place = f"{module.path.relative_to(root)}:{line}"
                if place not in found[module.room, room]:
                    found[module.room, room].append(place)
    return found


def lines_of_code(module):
    """Lines without blank ones, comments and docstrings."""
    documented = set()
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                documented.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = map(str.strip, module.path.read_text().splitlines())
    return sum(
        bool(line) and not line.startswith("#") and number not in documented
        for number, line in enumerate(lines, 1)
    )


def drawn(root=ROOT):
    """The rooms as text, the upper floors first."""
    size, below = collections.Counter(), collections.defaultdict(set)
    for module in modules(root):
        size[module.room] += lines_of_code(module) if module.path.suffix == ".py" else 0
    for upper, lower in arrows(root):
        below[upper].add(lower)
    text = []
    for floor, rooms in reversed(list(enumerate(FLOORS))):
        for room in rooms:
            to = sorted(below[room], key=lambda name: (-FLOOR.get(name, 99), name))
            text.append(f"{floor:2}  {room:20}{size[room]:6}  -> {', '.join(to) or 'nothing'}")
    unknown = sorted(set(size) - set(FLOOR))
    text += [f" ?  {room:20}{size[room]:6}  on no floor" for room in unknown]
    return "\n".join([*text, f"    {'all':20}{sum(size.values()):6}"])


def arrows_upwards(root=ROOT):
    found = []
    for (upper, lower), places in arrows(root).items():
        if upper not in FLOOR or lower not in FLOOR:
            reason = "a room on no floor"
        elif FLOOR[upper] <= FLOOR[lower] and upper != "__init__":
            reason = "up" if FLOOR[upper] < FLOOR[lower] else "between rooms of one floor"
        elif upper == "data" and lower not in DATA_MAY_IMPORT:
            reason = "data knows no model"
        else:
            continue
        found += [f"{place}: {upper} -> {lower}: {reason}" for place in places]
    return sorted(found)


def cycles(root=ROOT):
    """Modules that import each other, by whatever way."""
    # A name that a room's `__init__` gives is in one of the room's files.
    files = {module.name: module.name for module in modules(root)}
    for module in modules(root):
        if module.path.stem == "__init__":
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        for name in own(f"{module.absolute(node)}.{alias.name}"):
                            files[f"{module.name}.{alias.asname or alias.name}"] = name
    below = collections.defaultdict(set)
    for module in modules(root):
        if module.path.stem != "__init__":
            for _, name in module.imports:
                while files.get(name, name) != name:
                    name = files[name]
                name = name if name in files else name.rpartition(".")[0]
                if name in files and name != module.name:
                    below[module.name].add(name)

    def reached(start):
        seen, waiting = set(), [*below[start]]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += below[name]
        return seen

    return sorted(name for name in list(below) if name in reached(name))


class _PrivateNames(ast.NodeVisitor):
    """Lines of a module that name what is private to something else."""

    def __init__(self, tree):
        self.found = []
        # What the module itself defines: functions, classes, methods, attributes of self.
        self.defined = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        } | {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        }
        # Fields of data classes.
        self.defined |= {
            node.target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        self.visit(tree)

    def _note(self, node, name, known=()):
        private = name.startswith("_") and not name.endswith("__")
        if private and name not in PUBLIC and name not in known:
            self.found.append((node.lineno, name))

    def visit_Attribute(self, node):
        self._note(node, node.attr, self.defined)
        if ast.unparse(node).startswith(INTERNAL):
            self.found.append((node.lineno, ast.unparse(node)))
        self.generic_visit(node)

    def visit_ImportFrom(self, node):
        for part in (node.module or "").split("."):
            self._note(node, part)
        for alias in node.names:
            self._note(node, alias.name)
        if not node.level and node.module.startswith(INTERNAL):
            self.found.append((node.lineno, node.module))

    def visit_Import(self, node):
        for alias in node.names:
            for part in alias.name.split("."):
                self._note(node, part)
            if alias.name.startswith(INTERNAL):
                self.found.append((node.lineno, alias.name))

    def visit_Call(self, node):
        # getattr(layer, "_name") and the like.
        if isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            for argument in node.args[1:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    self._note(node, argument.value, self.defined)
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, str) and node.value.startswith(INTERNAL):
            self.found.append((node.lineno, node.value))


def private_names(root=ROOT):
    return [
        f"{module.path.relative_to(root)}:{line}: {name}"
        for module in modules(root)
        if module.name != "compat" and module.path.suffix == ".py"
        for line, name in dict.fromkeys(_PrivateNames(module.tree).found)
    ]


def test_what_must_not_be_is_found(tmp_path):
    files = {
        "layers/__init__.pyi": "from .mlp import MLP as MLP\n",
        "layers/mlp.py": "def MLP():\n    from ..models import graph\n    return graph\n",
        "models/graph.py": "from keras_t2t.layers import MLP\nMLP()._hidden = getattr(MLP, '_b')\n",
        "weights/names.py": "import keras_t2t\nLATE = 'keras_t2t.zoo:create'\n",
        "zoo.py": "from keras.src.models import functional\nfrom keras_t2t import data\n",
    }
    for name, text in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert arrows_upwards(tmp_path) == [
        "keras_t2t/layers/mlp.py:2: layers -> models: up",
        "keras_t2t/weights/names.py:1: weights -> __init__: up",
        "keras_t2t/weights/names.py:2: weights -> zoo: up",
        "keras_t2t/zoo.py:2: zoo -> data: between rooms of one floor",
    ]
    assert cycles(tmp_path) == ["layers.mlp", "models.graph"]
    assert private_names(tmp_path) == [
        "keras_t2t/models/graph.py:2: _hidden",
        "keras_t2t/models/graph.py:2: _b",
        "keras_t2t/zoo.py:1: keras.src.models",
    ]
    assert "keras" in heavy_imports("layers.mlp")


def test_arrows_point_downwards():
    assert arrows_upwards() == [], "\n" + drawn()


def test_no_module_imports_itself_by_way_of_others():
    assert cycles() == []


def test_private_names_stand_in_compat():
    assert private_names() == []


def overridden_private_names():
    """Private methods of a dependency that a class of this package replaces, by intent or not."""
    found = set()
    for module in modules():
        if module.path.suffix == ".pyi" or module.name.endswith("__main__"):
            continue
        name = "" if module.name == "__init__" else f".{module.name}"
        members = vars(importlib.import_module(PACKAGE + name))
        for cls in [c for c in members.values() if inspect.isclass(c)]:
            if cls.__module__.partition(".")[0] == PACKAGE:
                for base in cls.__mro__:
                    if base.__module__.partition(".")[0] != PACKAGE:
                        found |= {
                            (cls.__qualname__, name)
                            for own in cls.__mro__
                            if own.__module__.partition(".")[0] == PACKAGE
                            for name in vars(own).keys() & vars(base).keys()
                            if name.startswith("_") and not name.endswith("__")
                        }
    # Which tools of Python put into a class.
    return {(cls, name) for cls, name in found if not name.startswith("_abc_")}


@pytest.mark.tensorflow
def test_overridden_private_names_stand_in_compat():
    from keras_t2t import compat

    allowed = {
        name for key, names in vars(compat).items() if key.endswith("HOOKS") for name in names
    }
    assert {pair for pair in overridden_private_names() if pair[1] not in allowed} == set()


def light_modules():
    commands = [module.name for module in modules() if module.room == "commands"]
    return [*WITHOUT_KERAS, *dict.fromkeys(commands)]


def heavy_imports(name):
    """What a fresh process has loaded, of what takes seconds, after it imported a module."""
    code = f"import sys; import {PACKAGE}" + ("" if name == "__init__" else f".{name}")
    code += f"; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", light_modules())
def test_imports_no_keras(name):
    assert heavy_imports(name) == []


def main():
    root = Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT
    print(drawn(root))
    for title, lines in (
        ("Arrows that must not be", arrows_upwards(root)),
        ("Modules that import each other", cycles(root)),
        ("Private names outside compat.py", private_names(root)),
    ):
        print(f"\n{title}: {len(lines)}", *lines, sep="\n")


if __name__ == "__main__":
    main()
