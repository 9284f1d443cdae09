"""What must work in an environment that holds only the wheel; run by check-wheel there."""

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import landseer
from landseer.cli import COMMANDS
from landseer.recipe import load_recipe, shipped

package = Path(landseer.__file__).parent
program = Path(sys.executable).with_name("landseer")

assert "site-packages" in package.parts, f"imported from {package}, not from the wheel"
for tool in ("pytest", "hypothesis", "ruff", "mypy"):
    assert importlib.util.find_spec(tool) is None, f"{tool} is a dev tool and was installed all the same"

for module in pkgutil.walk_packages(landseer.__path__, "landseer."):
    importlib.import_module(module.name)

recipes = sorted((package / "recipes").rglob("*.toml"))
assert recipes, "the wheel holds no recipes"
for file in recipes:
    name = file.relative_to(package / "recipes").with_suffix("").as_posix()
    assert shipped(name) == file
    load_recipe(file)

for arguments in (["--version"], ["--help"], *([command, "--help"] for command in COMMANDS)):
    answer = subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout
    assert answer.strip(), f"landseer {' '.join(arguments)} printed nothing"
print(f"landseer {version('landseer')}: {len(COMMANDS)} commands and {len(recipes)} recipes answer")
