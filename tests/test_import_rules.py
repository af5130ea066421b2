"""Who may import whom, where numbers may be drawn, and what must not load until it is used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "channel_sim": {"channel_sim"},
    "sources": {"channel_sim", "sources"},
    "decoders": {"channel_sim", "sources", "decoders"},
    "reports": {"channel_sim", "reports"},
    "scenarios": {"channel_sim", "sources", "decoders", "reports", "scenarios"},
}
SLOW_TO_LOAD = {"tensorflow", "keras", "sionna"}
DRAWS_ELSEWHERE = {"random", "secrets"}
FILES = sorted(file for package in MAY_IMPORT for file in (ROOT / package).rglob("*.py"))


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Dotted names of the modules that import statements among `nodes` name; `from a import b` gives a and a.b."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when the module is imported: not the bodies of functions, nor what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        yield node
        yield from on_import(node)


def top_names(dotted: set[str]) -> set[str]:
    return {name.split(".")[0] for name in dotted}


def forbidden_imports(source: str, package: str) -> set[str]:
    """Our packages that `package` must not import, wherever in the module."""
    return top_names(imported(ast.walk(ast.parse(source)))) & (MAY_IMPORT.keys() | {"tests"}) - MAY_IMPORT[package]


def slow_imports(source: str) -> set[str]:
    return top_names(imported(on_import(ast.parse(source)))) & SLOW_TO_LOAD


def draws(source: str) -> set[str]:
    """Ways past `Key` to a random number: NumPy's or Python's own generators."""
    tree = ast.parse(source)
    modules = imported(ast.walk(tree))
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = {name for name in modules | attributes if name.startswith(("np.random", "numpy.random"))}
    return found | top_names(modules) & DRAWS_ELSEWHERE


def pickles(source: str) -> set[str]:
    return top_names(imported(ast.walk(ast.parse(source)))) & {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_module_keeps_the_rules(file):
    """Catches a channel that knows decoders, a report that runs a chain, a draw without an address, a slow start, a pickle."""
    source, name = file.read_text(encoding="utf-8"), file.relative_to(ROOT)
    assert forbidden_imports(source, name.parts[0]) == set()
    assert slow_imports(source) == set(), "import it in the function that needs it"
    assert pickles(source) == set()
    assert draws(source) == set() or str(name) == "channel_sim/keys.py", "draw from a Key"


@pytest.mark.parametrize("source, package, found", [
    ("import scenarios.runner", "channel_sim", {"scenarios"}),
    ("def f():\n    from decoders.none import NoDecoder", "sources", {"decoders"}),
    ("from sources import text", "reports", {"sources"}),
    ("if True:\n    from reports import html", "decoders", {"reports"}),
    ("import tests.laws", "scenarios", {"tests"}),
    ("from channel_sim.keys import Key\nimport numpy, sourcesque", "decoders", set()),
])
def test_negative_control_of_the_import_rule(source, package, found):
    """The rule must see imports in functions and of submodules, and only those of our own packages."""
    assert forbidden_imports(source, package) == found


@pytest.mark.parametrize("source, found", [
    ("import tensorflow as tf", {"tensorflow"}),
    ("from keras import ops", {"keras"}),
    ("try:\n    import sionna.phy\nexcept ImportError:\n    pass", {"sionna"}),
    ("class A:\n    import keras", {"keras"}),
    ("def f():\n    import tensorflow", set()),
    ("class A:\n    def f(self):\n        import tensorflow", set()),
    ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import keras", set()),
])
def test_negative_control_of_what_loads_on_import(source, found):
    """The rule must see imports that hide in a class body or a try, and allow those in functions."""
    assert slow_imports(source) == found


@pytest.mark.parametrize("source", [
    "import numpy as np\nnp.random.default_rng(1)", "from numpy.random import Philox", "from numpy import random",
    "import numpy\ndef f():\n    return numpy.random.rand()", "import random", "from secrets import token_bytes",
])
def test_negative_control_of_draws(source):
    """The rule must see every way to NumPy's generators."""
    assert draws(source)
    assert not draws("from channel_sim.keys import Key\nKey(1).uniform(3)\nrandom = 3")


def test_negative_control_of_pickles():
    """The rule must see a pickle."""
    assert pickles("def f():\n    from pickle import load") == {"pickle"} and not pickles("import json")


def test_all_packages_are_looked_at():
    """Catches a rule that passes because it reads no file."""
    assert {file.relative_to(ROOT).parts[0] for file in FILES} == MAY_IMPORT.keys() and len(FILES) > 30


def loaded_by(statement: str) -> set[str]:
    """Which of the slow modules a fresh interpreter holds after `statement`."""
    program = f"import sys\n{statement}\nprint(*sorted({SLOW_TO_LOAD!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_command_line_starts_without_tensorflow():
    """Catches a chain of imports that makes `channel-sim list` wait for TensorFlow."""
    assert loaded_by("import scenarios.cli") == set()


def test_negative_control_of_what_is_loaded():
    """The subprocess must tell: a module of that name that is loaded is seen."""
    assert loaded_by("import types; sys.modules['keras'] = types.ModuleType('keras')") == {"keras"}
