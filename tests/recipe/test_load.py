"""Recipes: strict by key, type and value, whatever is wrong named by its path; signed by what they say."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.recipe import (
    DiffusionOptions,
    ModelOptions,
    Recipe,
    StageOptions,
    fingerprint,
    load_recipe,
    recipe_from,
    shipped,
)
from landseer.recipe.load import options_from

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))

GOOD = """
title = "base"
seed = 3

[model]
pooling = "gap"
mean = [0.5, 0.5, 0.5]

[[stages]]
name = "first"
lr = 0.5

[[stages]]
name = "second"
epochs = 2
"""


TWO = "[[stages]]\nname = 'a'\n[[stages]]\nname = 'b'\n"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_recipe_is_read(tmp_path):
    found = load_recipe(written(tmp_path, GOOD))
    assert (found.title, found.seed, found.model.pooling, found.model.mean) == ("base", 3, "gap", (0.5,) * 3)
    assert [(stage.name, stage.lr) for stage in found.stages] == [
        ("first", 0.5),
        ("second", StageOptions(name="x").lr),
    ]
    assert found.search == Recipe(title="x").search


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{TWO}epoch = 3", "stages[1].epoch: unknown key; did you mean 'epochs'?"),
        ("[modle]", "modle: unknown key; did you mean 'model'?"),
        ("[search]\nzzz = 1", "search.zzz: unknown key; known: k"),
        ("model.backbone.name = 'x'", "model.backbone: expected a string, not a table"),
        ("model = 'resnet'", "model: expected a table of keys, not the string 'resnet'"),
        ("stages = 'all'", "stages: expected a list of tables, each under [[stages]], not the string 'all'"),
        ("[stages]\nname = 'a'", "stages: expected a list of tables, each under [[stages]], not a table"),
        ("stages = ['a']", "stages[0]: expected a table of keys, not the string 'a'"),
        ("[[stages]]\nepochs = 1", "stages[0].name: missing; it has no default"),
        ("seed = true", "seed: expected a whole number, not the truth value 'True'"),
        ("seed = 1.0", "seed: expected a whole number, not the number '1.0'"),
        ("seed = '1'", "seed: expected a whole number, not the string '1'"),
        ("seed = 2020-01-01", "seed: expected a whole number, not date '2020-01-01'"),
        ("seed = 9223372036854775808", "seed: expected a number of at most 64 bits, not 9223372036854775808"),
        ("seed = -1", "seed: must not be negative, not -1"),
        ("[model]\ngem_p = true", "model.gem_p: expected a number, not the truth value 'True'"),
        ("[model]\ngem_p = nan", "model.gem_p: expected a finite number, not nan"),
        ("[model]\ngem_p = inf", "model.gem_p: expected a finite number, not inf"),
        ("[model]\ngem_p = -inf", "model.gem_p: expected a finite number, not -inf"),
        ("[model]\ngem_p = 0", "model.gem_p: must be above 0, not 0.0"),
        ("[model]\nmean = 0.5", "model.mean: expected a list, not the number '0.5'"),
        ("[model]\nmean = [0.5]", "model.mean: needs three numbers (R, G, B) or none"),
        ("[model]\nmean = [0.5, 'x', 0.5]", "model.mean[1]: expected a number, not the string 'x'"),
        ("[model]\nmean = [0.5, nan, 0.5]", "model.mean[1]: expected a finite number, not nan"),
        ("[model]\npooling = 'gme'", "model.pooling: 'gme' is not one of its values; did you mean 'gem'?"),
        ("[model]\npooling = 7", "model.pooling: 7 is not one of its values; known: 'gem', 'gap', 'cls'"),
        ("[model]\nlast_stride = 1.0", "model.last_stride: 1.0 is not one of its values"),
        ("[model]\nlast_stride = true", "model.last_stride: True is not one of its values"),
        ("[model]\nlast_stride = 4", "model.last_stride: 4 is not one of its values; known: 1, 2"),
        ("[[stages]]\nname = 'a'\n[[stages]]\nname = 'a'", "stages: two stages have the same name"),
        ("[model]\ngem_learned = 1", "model.gem_learned: expected true or false, not the whole number '1'"),
        (f"{TWO}[stages.loss]\nkind = 'arc'", "stages[1].loss.kind: 'arc' is not one of its values"),
        (f"{TWO}[stages.augmentation]\nflip = 2", "stages[1].augmentation.flip: must lie in 0..1, not 2.0"),
        (f"{TWO}subset = 'all'", 'stages[1].subset: "all" trains on the index and query photos'),
        (f"{TWO}patience = 2", 'stages[1].patience: needs photos to validate on; say [data] validation'),
        (f"{TWO}sampler = 'id-uniform'\nbatch = 62", "stages[1].batch: must be a multiple of photos_each"),
        (f"{TWO}size = 8", "stages[1].size: must be at least 16, not 8"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_file_and_path(tmp_path, line, message):
    file = written(tmp_path, f"title = 'base'\n{line}\n")
    with pytest.raises(ValueError, match="^" + re.escape(f"{file}: {message}")):
        load_recipe(file)


def test_a_recipe_needs_a_title():
    with pytest.raises(ValueError, match=r"^title: missing; it has no default"):
        recipe_from({})
    with pytest.raises(ValueError, match=r"^title: may not be empty"):
        recipe_from({"title": ""})
    with pytest.raises(ValueError, match=r"^recipe: expected a table of keys, not a list"):
        recipe_from([])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.toml does not exist; recipes are TOML files"):
        load_recipe(tmp_path / "nowhere.toml")
    with pytest.raises(ValueError, match="cannot be read"):
        load_recipe(tmp_path)
    with pytest.raises(ValueError, match=r"mine\.toml is not valid TOML: .+line 1"):
        load_recipe(written(tmp_path, "title = base"))
    (tmp_path / "latin.toml").write_bytes("title = 'Köln'".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.toml cannot be read: "):
        load_recipe(tmp_path / "latin.toml")


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path):
    plain, marked = tmp_path / "a.toml", tmp_path / "b.toml"
    plain.write_text(GOOD)
    marked.write_text(GOOD.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert load_recipe(marked) == load_recipe(plain)


def test_a_part_of_a_recipe_is_as_strict():
    stage = StageOptions(name="a", lr=0.5)
    assert options_from(StageOptions, dataclasses.asdict(stage)) == stage
    model = ModelOptions(mean=(0.5, 0.5, 0.5))
    assert options_from(ModelOptions, dataclasses.asdict(model)) == model
    with pytest.raises(ValueError, match=r"^epoch: unknown key; did you mean 'epochs'\?"):
        options_from(StageOptions, {"name": "a", "epoch": 3})


# --- fingerprints ---------------------------------------------------------------------------------


def options_classes() -> list[type]:
    """Every option class that a recipe reaches, the recipe first."""
    found, waiting = [], [Recipe]
    while waiting:
        cls = waiting.pop(0)
        if cls in found:
            continue
        found.append(cls)
        for hint in get_type_hints(cls).values():
            waiting += [kind for kind in kinds_of(hint) if dataclasses.is_dataclass(kind)]
    return found


def kinds_of(hint: Any) -> list[Any]:
    """A type and what it is made of: a list of one of several option classes gives those, too."""
    return [hint, *(kind for part in get_args(hint) for kind in kinds_of(part))]


def plain_fields() -> list[tuple[type, str, Any]]:
    """(class, field, type) of every option that is a value, not a section."""
    return [
        (cls, name, hint)
        for cls in options_classes()
        for name, hint in get_type_hints(cls).items()
        if not any(dataclasses.is_dataclass(kind) for kind in kinds_of(hint)) and name != "method"
    ]


def candidates(hint: Any) -> list[Any]:
    """Values of a type, of which at least one is possible for any option and not its default."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if get_origin(hint) is tuple and get_args(hint)[0] is str:
        return [("a",), ("a", "b")]
    if get_origin(hint) is tuple and get_args(hint)[0] is not float:
        return [((32, 16), (16, 32)), ((32, 16), (16, 48))]
    if get_origin(hint) is tuple:
        return [(a, a, b) for a, b in ((0.25, 0.5), (1.0, 0.75))] + [(0.0, 0.8), (0.8, 1.0), (0.5,), (0.75,)]
    found = {bool: [False, True], int: [1, 2, 20, 120, 1200], float: [0.0, 0.5, 0.75, 1.0, 2.0, 5.0]}
    found[str] = ["another", "none", "x.y"]
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    return found[kinds[0]]


def minimal(cls: type) -> dict[str, Any]:
    return {
        entry.name: "x"
        for entry in dataclasses.fields(cls)
        if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    }


def variants(cls: type, name: str, hint: Any) -> list[Any]:
    """Possible options that differ in one field only; where it depends on another, beside a value of that."""
    others = [(other, kind) for of, other, kind in plain_fields() if of is cls and other != name]
    contexts = [{}, *({other: value} for other, kind in others for value in candidates(kind))]
    for context in itertools.chain(contexts, sections(cls)):
        found = []
        for value in [dataclasses.MISSING, *candidates(hint)]:
            changed = {} if value is dataclasses.MISSING else {name: value}
            try:
                options = cls(**{**minimal(cls), **context, **changed})
            except ValueError:
                continue
            if options not in found:
                found.append(options)
        if len(found) > 1:
            return found
    return found


def sections(cls: type) -> Iterator[dict[str, Any]]:
    """A section of *cls*, one of its values another than usual."""
    for name, hint in get_type_hints(cls).items():
        for inner, value, kind in plain_fields() if dataclasses.is_dataclass(hint) else ():
            if inner is hint:
                yield from ({name: options} for options in variants(hint, value, kind))


@pytest.mark.parametrize(
    ("cls", "name", "hint"), plain_fields(), ids=lambda part: getattr(part, "__name__", str(part))
)
def test_any_value_changes_the_fingerprint(cls, name, hint):
    made = variants(cls, name, hint)
    if len(get_args(hint)) != 1:  # a choice of one has nothing to change to
        assert len(made) > 1, f"no other value of {cls.__name__}.{name} was found"
    assert len({fingerprint(options) for options in made}) == len(made)
    assert fingerprint(made[-1]) == fingerprint(dataclasses.replace(made[-1]))


def wrapped(options: Any) -> Recipe:
    """The plainest recipe around *options* of any section, however deep it lies."""
    for owner in options_classes():
        for name, hint in get_type_hints(owner).items():
            if type(options) in kinds_of(hint):
                value = (options,) if get_origin(hint) is tuple else options
                outer = owner(**{**minimal(owner), name: value})
                return outer if owner is Recipe else wrapped(outer)
    raise AssertionError(f"no section is of {type(options)}")


@pytest.mark.parametrize("cls", options_classes()[1:], ids=lambda cls: cls.__name__)
def test_any_section_changes_the_fingerprint_of_the_recipe(cls):
    entries = [(name, hint) for of, name, hint in plain_fields() if of is cls]
    made = next(found for found in (variants(cls, *entry) for entry in entries) if len(found) > 1)
    recipes = [wrapped(options) for options in made]
    assert len({fingerprint(recipe) for recipe in recipes}) == len(made)


def test_the_order_of_stages_is_a_setting():
    a, b = StageOptions(name="a"), StageOptions(name="b")
    assert fingerprint(Recipe(title="x", stages=(a, b))) != fingerprint(Recipe(title="x", stages=(b, a)))


def test_layout_is_no_setting(tmp_path):
    other = """# a comment
    stages = [{lr = 5e-1, name = 'first'}, {epochs = 2, name = 'second', size = 224}]
    model = {mean = [0.5, 0.5, 0.5], pooling = "gap", gem_p = 3}
    seed = 0x3
    title = 'base'
    """
    first = load_recipe(written(tmp_path, GOOD))
    second = load_recipe(written(tmp_path, other))
    assert fingerprint(first) == fingerprint(second)
    assert re.fullmatch("[0-9a-f]{16}", fingerprint(first))


@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_is_no_setting(rng: random.Random):
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            rng.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(entry) for entry in value] if isinstance(value, (list, tuple)) else value

    recipe = Recipe(title="x", stages=(StageOptions(name="a"), StageOptions(name="b", size=64)))
    again = recipe_from(shuffled(dataclasses.asdict(recipe)))
    assert again == recipe
    assert fingerprint(again) == fingerprint(recipe)


BETWEEN = (
    "validation_share",
    "erase_smallest",
    "erase_largest",
    (DiffusionOptions, "alpha"),
    (DiffusionOptions, "tolerance"),
    "confidence",
    "contrast",
    "detection",
)
"""Shares and likelihoods that can be neither 0 nor 1."""


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls, name, hint in plain_fields() if hint is float],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_a_whole_number_is_a_number(cls, name):
    made = 0
    for whole in (0, 1, 2):
        try:
            options = cls(**{**minimal(cls), name: float(whole)})
        except ValueError:
            continue
        made += 1
        assert fingerprint(cls(**{**minimal(cls), name: whole})) == fingerprint(options)
    assert made > 0 or name in BETWEEN or (cls, name) in BETWEEN


def test_minus_zero_is_zero():
    assert fingerprint(StageOptions(name="a", warmup=-0.0)) == fingerprint(StageOptions(name="a", warmup=0.0))


def test_an_impossible_number_has_no_fingerprint():
    with pytest.raises(ValueError, match="lr: expected a finite number"):
        fingerprint(StageOptions(name="a", lr=math.inf))


# --- what is taken over -----------------------------------------------------------------------------


def test_a_stage_takes_over_what_it_does_not_say():
    first = {"name": "a", "lr": 0.5, "loss": {"scale": 30.0, "margin": 0.15}, "span": [0.0, 0.5]}
    second = {"name": "b", "like": "a", "size": 448, "loss": {"margin": 0.3}}
    third = {"name": "c", "like": "b", "span": [0.5, 1.0]}
    written_out = [
        first,
        {**first, "name": "b", "size": 448, "loss": {"scale": 30.0, "margin": 0.3}},
        {**first, "name": "c", "size": 448, "loss": {"scale": 30.0, "margin": 0.3}, "span": [0.5, 1.0]},
    ]
    short = recipe_from({"title": "x", "stages": [first, second, third]})
    assert short == recipe_from({"title": "x", "stages": written_out})
    assert fingerprint(short) == fingerprint(recipe_from({"title": "x", "stages": written_out}))
    for wrong, told in (
        ("z", "no earlier stage is called 'z'; earlier: 'a'"),
        (7, "no earlier stage is called 7"),
    ):
        with pytest.raises(ValueError, match=rf"^stages\[1\].like: {told}"):
            recipe_from({"title": "x", "stages": [first, {"name": "b", "like": wrong}]})
    with pytest.raises(ValueError, match=r"^stages\[0\].like: no earlier stage is called 'a'; earlier: none"):
        recipe_from({"title": "x", "stages": [{"name": "a", "like": "a"}]})


def members(*given: dict, stages: tuple[str, ...] = ("s", "t")) -> Recipe:
    return recipe_from(
        {
            "title": "x",
            "model": {"backbone": "resnet18", "pooling": "gem"},
            "descriptors": {"size": 128},
            "stages": [{"name": name} for name in stages],
            "members": list(given),
        }
    )


def test_members_are_laid_over_the_model():
    one = {"name": "one", "stages": ["s", "t"], "weight": 0.5}
    other = {"name": "two", "stages": ["t"], "model": {"backbone": "resnet50"}, "descriptors": {"size": 160}}
    recipe = members(one, other)
    assert [member.model.backbone for member in recipe.members] == ["resnet18", "resnet50"]
    assert [member.model.pooling for member in recipe.members] == ["gem", "gem"]
    assert [member.descriptors.size for member in recipe.members] == [128, 160]
    assert recipe.parts == recipe.members
    assert [stage.name for stage in recipe.stages_of(recipe.members[1])] == ["t"]
    assert recipe_from(dataclasses.asdict(recipe)) == recipe


def test_a_recipe_without_members_is_one_part():
    recipe = recipe_from({"title": "x", "stages": [{"name": "a"}, {"name": "b"}]})
    (part,) = recipe.parts
    assert part.stages == ("a", "b") and part.model == recipe.model


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"name": "one", "stages": ["s", "tt"]}], "members.one.stages: no stage 'tt'; did you mean 't'?"),
        ([{"name": "one", "stages": ["s"]}], "stages: no member goes through 't'"),
        ([{"name": "one", "stages": ["s", "t"]}] * 2, "members: two members have the same name"),
        ([{"name": "one", "stages": ["s", "s"]}], "members[0].stages: the same stage stands there twice"),
        ([{"name": "../one", "stages": ["s", "t"]}], "members[0].name: must be letters, digits"),
        ([{"name": "one", "weight": 0}], "members[0].weight: must be above 0, not 0.0"),
        (
            [{"name": "one", "model": {"bakcbone": "x"}}],
            "members[0].model.bakcbone: unknown key; did you mean",
        ),
        ([{"name": "one", "model": "x"}], "members[0].model: expected a table of keys, not the string 'x'"),
    ],
)
def test_members_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        members(*given)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"span": [0.5]}, "span: needs two rising numbers in 0..1, not [0.5]"),
        ({"span": [0.5, 0.5]}, "span: needs two rising numbers in 0..1"),
        ({"span": [0.0, 0.5], "schedule": "constant"}, "span: is for schedule = \"cosine\", not 'constant'"),
        ({"aspects": {"sizes": [[32, 32]], "splits": [1.0]}}, "aspects.sizes: 1 splits make 2 bins, not 1"),
        ({"aspects": {"sizes": [[32], [32, 32]], "splits": [1.0]}}, "aspects.sizes: each is [width, height]"),
        (
            {"aspects": {"sizes": [[32, 32]] * 3, "splits": [1.0, 1.0]}},
            "aspects.splits: must be above 0 and rise, not [1.0, 1.0]",
        ),
        (
            {"aspects": {"sizes": [[32, 32]] * 2, "splits": [1.0]}, "sampler": "id-uniform"},
            'sampler: batches of one shape are shuffled ones, so with aspects it must be "shuffle"',
        ),
        ({"judge": "mAP"}, 'judge: "mAP" asks and answers with held-out photos'),
    ],
)
def test_a_stage_that_cannot_be_is_refused(table, message):
    with pytest.raises(ValueError, match=re.escape(f"stages[0].{message}")):
        recipe_from({"title": "x", "stages": [{"name": "a", **table}]})


# --- the recipes that come with landseer ------------------------------------------------------------


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_every_recipe_loads_and_is_shipped(file):
    name = file.relative_to(ROOT / "recipes").with_suffix("").as_posix()
    assert shipped(name) == file
    assert load_recipe(shipped(name)) == load_recipe(file)


def test_no_two_recipes_have_one_title():
    titles = [load_recipe(file).title for file in RECIPES]
    assert len(set(titles)) == len(titles)


def test_a_recipe_that_is_not_shipped_is_named(tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    for name in ("base", "mini/base"):
        (tmp_path / f"{name}.toml").write_text("title = 'x'")
    monkeypatch.setattr("landseer.recipe.load._INSTALLED", tmp_path)  # as in a wheel
    assert shipped("mini/base") == tmp_path / "mini" / "base.toml"
    with pytest.raises(
        ValueError, match=r"no recipe 'mini/bsae' comes with landseer; did you mean 'mini/base'\?"
    ):
        shipped("mini/bsae")
    with pytest.raises(ValueError, match="known: base, mini/base"):
        shipped("q")


# --- one of several option classes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([{}], r"^reranking\[0\]\.method: missing; known: expansion, "),
        (
            [{"method": "two-stage"}, {"method": "two-stages"}],
            r"^reranking\[1\]\.method: .+did you mean 'two-stage'\?",
        ),
        ([{"method": 3}], r"^reranking\[0\]\.method: 3 is no method; known: "),
        (
            [{"method": "diffusion", "voters": 3}],
            r"^reranking\[0\]\.voters: unknown key; did you mean 'iterations'\?",
        ),
        ([{"method": "two-stage", "voters": 0}], r"^reranking\[0\]\.voters: must be at least 1, not 0"),
        (["two-stage"], r"^reranking\[0\]: expected a table of keys"),
        ({"method": "two-stage"}, r"^reranking: expected a list of tables, each under \[\[reranking\]\]"),
    ],
)
def test_a_method_says_which_keys_there_are(steps, expected):
    with pytest.raises(ValueError, match=expected):
        recipe_from({"title": "x", "reranking": steps})


def test_every_method_loads_with_its_defaults():
    kinds = [kind for kind in kinds_of(get_type_hints(Recipe)["reranking"]) if dataclasses.is_dataclass(kind)]
    steps = recipe_from({"title": "x", "reranking": [{"method": kind().method} for kind in kinds]}).reranking
    assert steps == tuple(kind() for kind in kinds) and len(steps) == 8
