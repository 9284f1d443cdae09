"""From a TOML file to typed options; unknown keys, wrong types, impossible values are refused by path."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from landseer.recipe.options import Recipe

Options = TypeVar("Options")

_INSTALLED = Path(__file__).parents[1] / "recipes"
_CHECKOUT = Path(__file__).parents[3] / "recipes"


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.  Its ``ValueError`` names the file, the key's path and the nearest known name."""
    try:
        found = tomllib.loads(
            path.read_text(encoding="utf-8-sig")
        )  # editors on Windows write a byte order mark
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; recipes are TOML files, see recipes/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    try:
        return recipe_from(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def shipped(name: str) -> Path:
    """The file of a recipe that comes with landseer: ``shipped("mini/base")`` is ``recipes/mini/base.toml``.

    Raises ``ValueError`` with the nearest name where there is none.
    """
    folder = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT  # a wheel holds a copy of the checkout's folder
    known = {file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.toml")}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        raise ValueError(f"no recipe {name!r} comes with landseer; {hint}")
    return known[name]


def recipe_from(found: Any) -> Recipe:
    """A recipe from plain nested values, as TOML gives them.

    Where a stage says ``like``, and in every member, what is not said is taken over.
    """
    if not isinstance(found, Mapping):
        return _build(Recipe, found, "")
    whole = dict(found)
    if isinstance(whole.get("stages"), list):
        whole["stages"] = _stages_like(whole["stages"])
    if isinstance(whole.get("members"), list):
        whole["members"] = [_member_like(member, whole) for member in whole["members"]]
    return _build(Recipe, whole, "")


def _stages_like(stages: list[Any]) -> list[Any]:
    """Every stage with what it takes over from the earlier one that it is ``like``."""
    resolved: list[Any] = []
    for number, stage in enumerate(stages):
        if isinstance(stage, Mapping) and "like" in stage:
            earlier = {one.get("name"): one for one in resolved if isinstance(one, Mapping)}
            name = stage["like"]
            if not isinstance(name, str) or name not in earlier:
                known = ", ".join(map(repr, earlier)) or "none"
                raise ValueError(
                    f"stages[{number}].like: no earlier stage is called {name!r}; earlier: {known}"
                )
            own = {key: value for key, value in stage.items() if key != "like"}
            taken = {key: value for key, value in earlier[name].items() if key != "name"}
            stage = _over(taken, own)
        resolved.append(stage)
    return resolved


def _member_like(member: Any, recipe: Mapping[str, Any]) -> Any:
    if not isinstance(member, Mapping):
        return member
    return {
        **member,
        **{key: _over(recipe.get(key, {}), member.get(key, {})) for key in ("model", "descriptors")},
    }


def _over(below: Any, above: Any) -> Any:
    """Nested tables, one laid over the other."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}


def options_from(cls: type[Options], found: Mapping[str, Any]) -> Options:
    """One room's options from plain values (``asdict`` of earlier ones, say), as strictly as a recipe's."""
    return _build(cls, found, "")


def fingerprint(options: Any) -> str:
    """Identity of options (a recipe or any part): equal settings, equal string, whatever the layout."""
    # once through the loader, so that 1 and 1.0 are one setting when options were made in Python, too
    settings = dataclasses.asdict(options_from(type(options), dataclasses.asdict(options)))
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _build(cls: type[Options], found: Any, where: str) -> Options:
    if not isinstance(found, Mapping):
        raise ValueError(f"{where or 'recipe'}: expected a table of keys, not {_shown(found)}")
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    values = {}
    for key, value in found.items():
        path = f"{where}.{key}" if where else key
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(fields)}"
            raise ValueError(f"{path}: unknown key; {hint}")
        values[key] = _value(hints[key], value, path)
    for name, entry in fields.items():
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"{f'{where}.{name}' if where else name}: missing; it has no default")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}.{error}" if where else str(error)) from None


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        if not any(value == known and type(value) is type(known) for known in arguments):
            near = difflib.get_close_matches(str(value), [str(known) for known in arguments], n=1)
            hint_text = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(map(repr, arguments))}"
            raise ValueError(f"{where}: {value!r} is not one of its values; {hint_text}")
        return value
    if origin in (Union, types.UnionType):
        if all(dataclasses.is_dataclass(kind) for kind in arguments):
            return _build(_by_method(arguments, value, where), value, where)
        # "or nothing": nothing is what no key in the file means
        return value if value is None else _value(_first_kind(arguments), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(
                f"{where}: expected a list{_list_hint(arguments[0], where)}, not {_shown(value)}"
            )
        return tuple(_value(arguments[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise ValueError(f"{where}: expected {_NAMES[hint]}, not {_shown(value)}")
    return _number(hint, value, where) if hint in (int, float) else value


def _number(hint: type, value: float, where: str) -> float:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where}: expected a number of at most 64 bits, not {value}")
    if not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, not {value}")
    return float(value) + 0.0 if hint is float else value  # + 0.0: minus zero is zero


def _first_kind(arguments: tuple[Any, ...]) -> Any:
    return next(kind for kind in arguments if kind is not type(None))


def _by_method(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The one of several options classes whose default of ``method`` is what *value* says."""
    known = {kind().method: kind for kind in kinds}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a table of keys, not {_shown(value)}")
    if "method" not in value:
        raise ValueError(f"{where}.method: missing; known: {', '.join(known)}")
    method = value["method"]
    if not isinstance(method, str) or method not in known:
        near = difflib.get_close_matches(str(method), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ValueError(f"{where}.method: {method!r} is no method; {hint}")
    return known[method]


def _list_hint(kind: Any, where: str) -> str:
    tables = dataclasses.is_dataclass(kind) or any(map(dataclasses.is_dataclass, get_args(kind)))
    return f" of tables, each under [[{where}]]" if tables else ""


_NAMES = {float: "a number", int: "a whole number", str: "a string", bool: "true or false"}
_KINDS = {float: "the number", int: "the whole number", str: "the string", bool: "the truth value"}


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return f"{_KINDS.get(type(value), type(value).__name__)} {str(value)[:60]!r}"
