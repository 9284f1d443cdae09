"""Beside pyproject.toml for one thing: a wheel holds the recipes, which lie where people see them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies ``recipes/`` to ``landseer/recipes/``; an editable install reads the checkout's own folder."""

    def run(self) -> None:
        """Build the package, then add its recipes."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "landseer" / "recipes"
            shutil.rmtree(target, ignore_errors=True)  # a recipe that was deleted must not live on in build/
            shutil.copytree(Path(__file__).parent / "recipes", target)


setup(cmdclass={"build_py": BuildWithRecipes})
