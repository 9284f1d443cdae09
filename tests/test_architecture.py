"""The floors of the house: a room imports only from lower floors, and nothing happens at import.

The checker reads source, so it sees imports inside functions and under ``TYPE_CHECKING``, too; it is itself
tested on planted imports in every spelling.
"""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

FLOORS = {
    "types": 0,
    **dict.fromkeys(("storage", "recipe", "photos"), 1),
    **dict.fromkeys(("datasets", "models", "losses", "search", "matching", "evaluation"), 2),
    **dict.fromkeys(("reranking", "extraction"), 3),
    **dict.fromkeys(("training", "cleaning", "export", "reporting"), 4),
    "pipeline": 5,
    **dict.fromkeys(("server", "cli"), 6),
    "__main__": 7,
}
DOOR = ("cli", "server")
"""The one import on the same floor."""
SERVER_MAY = {"pipeline", "types", "recipe"}
"""The server is a thin client: these and nothing else."""
ROOT = "the package itself"
"""What ``import landseer`` gives: the public names of every floor, so no room may use it."""
UNKNOWN = "a name made at run time"
HEAVY = ("torch", "torchvision", "timm", "faiss", "cv2", "pyarrow", "matplotlib")


def imports_of(source: str, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of landseer in *source*, the text of *module*, in whatever spelling.

    ``module`` is the dotted name with ``__init__`` kept: ``("landseer", "storage", "__init__")``.
    """
    tree = ast.parse(source)
    loaders = {"__import__", "import_module"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "importlib":
            loaders |= {name.asname for name in node.names if name.name == "import_module" and name.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [tuple(name.name.split(".")) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module[: len(module) - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            targets = [(*base, name.name) for name in node.names]
        elif isinstance(node, ast.Call) and _called(node) in loaders:
            targets = [_dynamic_target(node, module)]
        else:
            continue
        for target in targets:
            if target[0] == "landseer":
                yield node.lineno, target[1] if len(target) > 1 and target[1] in FLOORS else ROOT
            elif target[0] == UNKNOWN:
                yield node.lineno, UNKNOWN


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _dynamic_target(call: ast.Call, module: tuple[str, ...]) -> tuple[str, ...]:
    """The dotted name a loader is given; of an f-string the part before its first hole."""
    named = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "name"), None)
    if isinstance(named, ast.JoinedStr) and named.values:
        named = named.values[0]
    if not isinstance(named, ast.Constant) or not isinstance(named.value, str) or not named.value:
        return (UNKNOWN,)
    name = named.value
    level = len(name) - len(name.lstrip("."))
    base = module[: len(module) - level] if level else ()
    return (*base, *[part for part in name.split(".") if part]) or (UNKNOWN,)


def allowed(importer: str, imported: str) -> bool:
    if imported in (ROOT, UNKNOWN):
        return False
    if importer == imported:
        return True
    if importer == "server":
        return imported in SERVER_MAY
    return FLOORS[imported] < FLOORS[importer] or (importer, imported) == DOOR


def violations(root: Path) -> list[str]:
    """One line for every import that does not point down, and every room that stands on no floor."""
    found = []
    for file in sorted((root / "landseer").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        where = file.relative_to(root).as_posix()
        room = parts[1]
        if room == "__init__":
            continue  # the package itself stands above every floor
        if room not in FLOORS:
            found.append(f"{where}: {room!r} stands on no floor")
            continue
        found += [
            f"{where}:{line}: {room} imports {imported}"
            for line, imported in imports_of(file.read_text(encoding="utf-8"), parts)
            if not allowed(room, imported)
        ]
    return found


def test_imports_only_point_down():
    assert violations(SOURCE) == []


def test_there_is_no_room_for_odds_and_ends():
    names = {
        part.lower() for file in (SOURCE / "landseer").rglob("*.py") for part in file.with_suffix("").parts
    }
    assert not names & {"util", "utils", "helper", "helpers", "common", "misc", "tools", "lib"}


PLANTED = {
    "plain": "import landseer.training.stage",
    "plain with another name": "import landseer.training as t",
    "second of a line": "import os, landseer.training",
    "a room of the package": "from landseer import training",
    "a room under another name": "from landseer import types, training as t",
    "a name of a room": "from landseer.training import train_stage",
    "a name of a module": "from landseer.training.stage import train_stage",
    "everything": "from landseer.training import *",
    "relative name": "from ..training import train_stage",
    "relative module": "from ..training.stage import train_stage",
    "relative room": "from .. import training",
    "in a function": "def f():\n    from landseer.training import train_stage\n    return train_stage",
    "in a method": "class A:\n    def f(self):\n        import landseer.training",
    "for types only": "import typing\nif typing.TYPE_CHECKING:\n    from landseer.training import Stage",
    "where it may fail": "try:\n    import landseer.training\nexcept ImportError:\n    pass",
    "import_module": "import importlib\nimportlib.import_module('landseer.training')",
    "import_module, by keyword": "import importlib\nimportlib.import_module(name='landseer.training.stage')",
    "import_module, imported": "from importlib import import_module\nimport_module('landseer.training')",
    "import_module, renamed": "from importlib import import_module as load\nload('landseer.training')",
    "import_module, relative": "import importlib\nimportlib.import_module('..training', __package__)",
    "import_module, f-string": "import importlib\nx = 1\nimportlib.import_module(f'landseer.training.{x}')",
    "__import__": "__import__('landseer.training')",
    "__import__ of builtins": "import builtins\nbuiltins.__import__('landseer.training')",
}


def planted(tmp_path: Path, room: str, text: str, *, file: str = "planted.py") -> list[str]:
    folder = tmp_path / "landseer" / room
    folder.mkdir(parents=True)
    (tmp_path / "landseer" / "__init__.py").touch()
    (folder / file).write_text(text)
    return violations(tmp_path)


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
def test_an_import_that_points_up_is_found(tmp_path, text):
    line = max(i for i, row in enumerate(text.splitlines(), 1) if "training" in row)
    assert planted(tmp_path, "search", text) == [
        f"landseer/search/planted.py:{line}: search imports training"
    ]


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
def test_the_same_import_that_points_down_is_none(tmp_path, text):
    assert planted(tmp_path, "pipeline", text) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [("__init__.py", "from ..training import a"), ("deep/__init__.py", "from ...training import a")],
)
def test_relative_imports_of_a_package_count_from_the_package(tmp_path, file, text):
    (tmp_path / "landseer" / "search" / "deep").mkdir(parents=True)
    (tmp_path / "landseer" / "search" / file).write_text(text)
    assert violations(tmp_path) == [f"landseer/search/{file}:1: search imports training"]


@pytest.mark.parametrize(
    ("room", "text", "found"),
    [
        ("search", "from landseer.matching import a", ["search imports matching"]),
        ("recipe", "from landseer.storage.artifact import a", ["recipe imports storage"]),
        ("search", "import landseer", [f"search imports {ROOT}"]),
        ("search", "from landseer import run", [f"search imports {ROOT}"]),
        ("search", "from .. import run", [f"search imports {ROOT}"]),
        ("search", "from landseer import *", [f"search imports {ROOT}"]),
        ("search", "import importlib\nimportlib.import_module(room)", [f"search imports {UNKNOWN}"]),
        ("search", "import importlib\nimportlib.import_module(f'{room}.x')", [f"search imports {UNKNOWN}"]),
        ("cli", "from landseer.server import a", []),
        ("server", "from landseer.cli import a", ["server imports cli"]),
        (
            "server",
            "from landseer.pipeline import a\nfrom landseer.types import b\nimport landseer.recipe",
            [],
        ),
        ("server", "from landseer.search import a", ["server imports search"]),
        ("search", "import landseerish.training\nimport numpy\nimport importlib.metadata", []),
        ("search", "from . import exact\nfrom .exact import a\nfrom landseer.search.exact import b", []),
    ],
)
def test_doors_and_walls(tmp_path, room, text, found):
    assert [line.split(": ", 1)[1] for line in planted(tmp_path, room, text)] == found


def test_a_room_on_no_floor_is_found(tmp_path):
    assert planted(tmp_path, "utils", "x = 1") == ["landseer/utils/planted.py: 'utils' stands on no floor"]


def test_types_may_import_no_room(tmp_path):
    (tmp_path / "landseer").mkdir()
    (tmp_path / "landseer" / "types.py").write_text("from landseer.photos import a")
    assert violations(tmp_path) == ["landseer/types.py:1: types imports photos"]


def _in_a_fresh_process(program: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_help_loads_nothing_heavy():
    found = _in_a_fresh_process(
        "import json, sys\n"
        "from landseer.cli import main\n"
        "sys.argv = ['landseer', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )
    assert found == []


def test_the_help_of_a_command_loads_no_deep_learning():
    found = _in_a_fresh_process(
        "import json, sys\n"
        "from landseer.cli import COMMANDS, cli\n"
        "commands = [cli.get_command(None, name) for name in COMMANDS]\n"
        "print(json.dumps([name for name in ('torch', 'timm', 'faiss') if name in sys.modules]))"
    )
    assert found == []


def test_import_landseer_is_light():
    found = _in_a_fresh_process(
        "import json, sys\nimport landseer\n"
        f"print(json.dumps([name for name in {HEAVY} + ('numpy', 'click') if name in sys.modules]))"
    )
    assert found == []


def test_help_answers_at_once():
    """Half a second, in processor time: that is what a wall clock shows on a machine that is not busy."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [Path(sys.executable).with_name("landseer"), "--help"], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.5


def test_nothing_happens_at_import():
    """No handler, level, seed or thread count changes when every module is imported."""
    program = """
import json, logging, pkgutil, importlib, random, signal
import numpy, torch
import landseer
def state():
    return {
        "handlers": len(logging.root.handlers),
        "level": logging.root.level,
        "random": hash(random.getstate()),
        "numpy": numpy.random.get_state()[1].tobytes().hex(),
        "torch": torch.initial_seed(),
        "threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "interrupt": str(signal.getsignal(signal.SIGINT)),
    }
before = state()
names = [module.name for module in pkgutil.walk_packages(landseer.__path__, "landseer.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
after = state()
print(json.dumps({"modules": len(names), "changed": [k for k in before if before[k] != after[k]]}))
"""
    found = _in_a_fresh_process(program)
    assert found["modules"] > 5
    assert found["changed"] == []


def test_the_page_shows_the_floors():
    page = (SOURCE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    floor, shown = 0, {}
    for line in page.split("```")[1].strip().splitlines():
        floor = int(line[6]) if line.startswith("floor") else floor
        shown[line[9:].split()[0]] = floor
    assert shown == {room: number for room, number in FLOORS.items() if room != "__main__"}
