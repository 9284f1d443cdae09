"""Write ``docs/recipes.md`` from the option classes: every key, its type, its default, its meaning."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOM = ROOT / "src" / "landseer" / "recipe"
OPTIONS = tuple(
    ROOM / name
    for name in (
        "options.py",
        "stage_options.py",
        "loss_options.py",
        "aspect_options.py",
        "reranking_options.py",
        "recognition_options.py",
        "matching_options.py",
    )
)
METHOD = "method"
"""The key by which one of several option classes is chosen; the class says in its first line what it chooses."""
PAGE = Path(__file__).with_name("recipes.md")
TYPES = {"str": "string", "int": "whole number", "float": "number", "bool": "true or false"}

INTRODUCTION = """\
# Recipes

A recipe is one TOML file that says everything about a run that can change its result; `recipes/` holds those
that come with landseer. Facts of a machine (device, workers, folders, `--weights FILE`) are given on the
command line instead. An unknown key, a value of the wrong type and an impossible value are refused by the
key's path:

    recipes/mine.toml: stages[1].epoch: unknown key; did you mean 'epochs'?

Two recipes with equal settings have the same fingerprint, however the file is laid out; one changed value
gives another. A key that is left out has its default.

*This page is generated from `src/landseer/recipe/` by `make docs`.*
"""


def page() -> str:
    """The text of ``docs/recipes.md``."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in OPTIONS]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    # a union of classes, of which "method" chooses one
    unions = {
        ast.unparse(node.targets[0]): [classes[name.strip()] for name in ast.unparse(node.value).split("|")]
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp)
    }
    skip = {*classes, *unions}
    sections = ["## The file itself", _table(classes["Recipe"], skip=skip)]
    for entry in _entries(classes["Recipe"]):
        for union, choices in unions.items():
            if union in ast.unparse(entry.annotation):
                sections += _choices(ast.unparse(entry.target), entry, classes["Recipe"], choices, skip)
    return "\n\n".join([INTRODUCTION.rstrip(), *sections, *_sections("Recipe", "", classes, {})]) + "\n"


def _choices(
    name: str, entry: ast.AnnAssign, owner: ast.ClassDef, choices: list[ast.ClassDef], skip: set[str]
) -> list[str]:
    """The section of a list of tables, each of one of *choices*."""
    meaning = _plain(_docstring(owner.body[owner.body.index(entry) + 1], f"{owner.name}.{name}"))
    found = [f"## `[[{name}]]`", f"{meaning} `{METHOD}` says which, and what other keys there are."]
    for choice in choices:
        heading, _, text = _plain(ast.get_docstring(choice) or "").partition("`: ")
        found += [f"### {heading}`", text[:1].upper() + text[1:], _table(choice, skip=skip)]
    return found


def _sections(
    owner: str, prefix: str, classes: dict[str, ast.ClassDef], described: dict[str, str]
) -> list[str]:
    """Heading, meaning and keys of every table below the class *owner*, whose own path is *prefix*.

    Keys that were *described* already (class -> heading) are pointed at.
    """
    found = []
    for entry in _entries(classes[owner]):
        name, kind = f"{prefix}{ast.unparse(entry.target)}", ast.unparse(entry.annotation)
        options = next((one for one in classes if one in kind), None)
        if options is None:
            continue
        brackets = f"[[{name}]]" if kind.startswith("tuple") else f"[{name}]"
        own = _own_docstring(classes[owner], entry)
        if options in described:
            found += [f"## `{brackets}`", f"The keys of `{described[options]}`{f': {own}' if own else '.'}"]
            continue
        described[options] = brackets
        # the docstring starts with the section's own brackets: "``[model]``: backbone + ..."
        meaning = _plain(ast.get_docstring(classes[options]) or "").rpartition("]`: ")[2]
        found += [
            f"## `{brackets}`",
            meaning[:1].upper() + meaning[1:] + (f" {own[:1].upper()}{own[1:]}" if own else ""),
            _table(classes[options], skip=classes),
            *_sections(options, f"{name}.", classes, described),
        ]
    return found


def _own_docstring(owner: ast.ClassDef, entry: ast.AnnAssign) -> str:
    """What stands under a field that is a section, where something does; its brackets left out."""
    following = owner.body[owner.body.index(entry) + 1 :]
    first = following[0] if following else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return _plain(str(first.value.value)).rpartition("]`: ")[2]
    return ""


def _table(options: ast.ClassDef, *, skip: Collection[str]) -> str:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for entry in _entries(options):
        name, kind = ast.unparse(entry.target), ast.unparse(entry.annotation)
        if name == METHOD or any(one in kind for one in skip):
            continue
        following = options.body[options.body.index(entry) + 1 :]
        meaning = _plain(_docstring(following[0] if following else None, f"{options.name}.{name}"))
        rows.append(f"| `{name}` | {_type(entry.annotation)} | {_default(entry.value)} | {meaning} |")
    return "\n".join(rows)


def _entries(options: ast.ClassDef) -> list[ast.AnnAssign]:
    return [node for node in options.body if isinstance(node, ast.AnnAssign)]


def _docstring(node: ast.stmt | None, field: str) -> str:
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ):
        return node.value.value
    raise ValueError(f"{field} has no string under it that says what it means")


def _plain(text: str) -> str:
    return " ".join(textwrap.dedent(text).split()).replace("``", "`").replace("|", "\\|")


def _type(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if ast.unparse(node.value) == "Literal":
            return ", ".join(f"`{_toml(ast.literal_eval(one))}`" for one in inner)
        return f"list: {_type(inner[0])}"
    if isinstance(node, ast.BinOp):  # "int | None": left out means none
        return _type(node.left)
    return TYPES[ast.unparse(node)]


def _default(node: ast.expr | None) -> str:
    return "*required*" if node is None else f"`{_toml(ast.literal_eval(node))}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return "none" if value is None else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
