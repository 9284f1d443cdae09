"""Every re-ranking method on one ranking: mAP@100 with interval, paired test against the search alone, time.

First ``choose`` tries a grid of settings of each method on collections made of training photos
(``benchmarks/train_side.py``), on measured models (``RUN/trained``) of each, and keeps the settings with the best mean
mAP@100, where queries of landmarks that were not trained on weigh as much as ``--unseen`` says: as many as are expected
where it counts.  Then ``table`` applies those once to the model and the queries that count::

    python benchmarks/reranking_table.py choose S0:R0/trained S1:R1/trained --out chosen.json
    python benchmarks/reranking_table.py table C:RUN/trained --chosen chosen.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from landseer.evaluation import compare, evaluate_retrieval
from landseer.evaluation.scoring import Evaluated
from landseer.pipeline.rerank import bank_of
from landseer.recipe import Recipe, RerankingOptions, options_from
from landseer.reranking import Context, rerank
from landseer.storage import load_collection, load_descriptors, load_ranking
from landseer.types import Collection, Ranking

Chain = tuple[Mapping[str, object], ...]
BASELINE = "search alone"


def grid(method: str, **choices: Sequence[object]) -> list[Chain]:
    """Chains of one method, one for each combination of *choices*."""
    keys = list(choices)
    return [
        ({"method": method, **dict(zip(keys, values, strict=True))},)
        for values in itertools.product(*choices.values())
    ]


GRIDS: Mapping[str, list[Chain]] = {
    "alpha QE": grid("expansion", query_neighbours=[1, 2, 3, 5, 10, 20], alpha=[1.0, 3.0, 6.0]),
    "DBA": grid(
        "expansion", query_neighbours=[0], gallery_neighbours=[1, 2, 3, 5, 10, 20], alpha=[1.0, 3.0, 6.0]
    ),
    "DBA and alpha QE": grid(
        "expansion", query_neighbours=[2, 5, 10], gallery_neighbours=[2, 5, 10], alpha=[1.0, 3.0, 6.0]
    ),
    "k-reciprocal": grid("k-reciprocal", k1=[10, 20, 30], k2=[1, 3, 6], weight=[0.1, 0.3, 0.5]),
    "diffusion": grid("diffusion", neighbours=[10, 20, 50], query_neighbours=[5, 10, 20], gamma=[3.0]),
    "traversal (EGT)": grid("traversal", neighbours=[10, 30, 100], threshold=[None, 0.6, 0.8]),
    "nearest label": grid("nearest-label", agree=[0.5, 1.0], disagree=[0.0, 0.1]),
    "sort": grid("two-stage", insert=[False], voters=[1, 3, 5]),
    "sort and insert": grid("two-stage", voters=[1, 3, 5], threshold=[0.6, 0.8, 1.0, 1.2, 1.4, 1.6]),
    "landmark": grid(
        "landmark-country",
        beta=[0.0],
        alpha=[0.1, 0.3, 1.0],
        voters=[1, 3, 5],
        voting=["cosine"],
        normalise=[True, False],
    ),
    "country": grid(
        "landmark-country", alpha=[0.0], beta=[0.03, 0.1, 0.3], voters=[1, 3, 5], voting=["cosine"]
    ),
    "landmark and country": grid(
        "landmark-country",
        alpha=[0.1, 0.3, 1.0],
        beta=[0.03, 0.1],
        voters=[1, 3, 5],
        voting=["cosine"],
        normalise=[True, False],
    ),
    "landmark and country, k-reciprocal votes": grid(
        "landmark-country", alpha=[0.3, 1.0], beta=[0.03, 0.1], voters=[3, 5]
    ),
    "landmark and country, hard": grid(
        "landmark-country",
        alpha=[0.1, 0.3, 1.0],
        beta=[0.03, 0.1],
        voters=[1, 3, 5],
        voting=["cosine"],
        hard=[True],
    ),
}


def chains(*parts: list[Chain]) -> list[Chain]:
    """Every chain of one of each of *parts*, in this order."""
    return [tuple(step for part in choice for step in part) for choice in itertools.product(*parts)]


_MIXED = grid(
    "expansion", query_neighbours=[2, 5, 10], gallery_neighbours=[2, 5, 10], alpha=[3.0], pass_on=[True]
)
_NEAR = grid("k-reciprocal", k1=[10, 20, 30], k2=[6], weight=[0.1, 0.3])
_SURE = grid("two-stage", voters=[3], threshold=[1.0, 1.4], least_vote=[0.5, 0.6, 0.7, 0.8, 0.9])
TOGETHER: Mapping[str, list[Chain]] = {
    "sort and insert if sure": _SURE,
    "DBA and alpha QE, then k-reciprocal": chains(_MIXED, _NEAR),
    "k-reciprocal, then sort and insert if sure": chains(
        grid("k-reciprocal", k1=[10, 20, 30], k2=[6]), _SURE
    ),
    "DBA and alpha QE, then sort and insert if sure": chains(_MIXED, _SURE),
}
"""Chains of several methods."""


class Model:
    """One measured model and the collection it was measured on."""

    def __init__(self, named: str, bank: str | None = None) -> None:
        data, _, folder = named.partition(":")
        place = Path(folder)
        self.name = folder
        self.collection: Collection = load_collection(Path(data))
        self.ranking: Ranking = load_ranking(place / "ranking")
        rows = load_descriptors(Path(bank) if bank else place / "bank")
        self.context = Context(
            queries=load_descriptors(place / "query"),
            gallery=load_descriptors(place / "index"),
            bank=bank_of(self.collection, rows),
        )
        queries = self.collection.in_split("query")
        self.landmark_of = {
            photo: int(number)
            for photo, number in zip(queries.ids, queries.landmark_N, strict=True)
            if number >= 0
        }
        train = self.collection.in_split("train").landmark_N
        self.trained = set(train[train >= 0].tolist())

    def score(self, chain: Chain, *, resamples: int) -> tuple[Evaluated, float]:
        """How the ranking scores after *chain*, and its seconds."""
        start = time.perf_counter()
        ranking = rerank(self.ranking, options_of(chain), self.context).ranking if chain else self.ranking
        seconds = time.perf_counter() - start
        assert self.collection.truth is not None
        found = evaluate_retrieval(
            ranking,
            self.collection.truth,
            trained_landmarks=self.trained,
            landmark_of=self.landmark_of,
            resamples=resamples,
        )
        return found, seconds


def options_of(chain: Chain) -> tuple[RerankingOptions, ...]:
    """Typed options, as a recipe's loader makes them."""
    return options_from(Recipe, {"title": "chain", "reranking": [dict(step) for step in chain]}).reranking


def map_of(found: Evaluated, unseen: float) -> float:
    """mAP@100, with *unseen* as the weight of landmarks that were not trained on."""
    seen = found.report.value("mAP@100", "landmarks trained on")
    return (1 - unseen) * seen + unseen * found.report.value("mAP@100", "landmarks not trained on")


def choose(models: Sequence[Model], out: Path, *, unseen: float) -> None:
    """The best of each grid by the mean over *models*, then chains of the best; written to *out*."""
    chosen: dict[str, Chain] = {}

    def mean_of(chain: Chain) -> float:
        return float(np.mean([map_of(model.score(chain, resamples=100)[0], unseen) for model in models]))

    print(f"{BASELINE}: {mean_of(()):.4f}", flush=True)
    known = any(
        model.context.bank is not None
        and model.context.bank.country_N is not None
        and model.context.bank.country_N.max() >= 0
        for model in models
    )

    def candidates() -> Iterator[tuple[str, list[Chain]]]:
        for name, tried in GRIDS.items():
            if known or "country" not in name:
                yield name, tried
        yield from TOGETHER.items()

    for name, tried in candidates():
        scores = [mean_of(chain) for chain in tried]
        best = int(np.argmax(scores))
        chosen[name] = tried[best]
        settings = [{k: v for k, v in step.items() if k != "method"} for step in tried[best]]
        print(f"{name}: {scores[best]:.4f} of {len(tried)}, worst {min(scores):.4f}: {settings}", flush=True)
    out.write_text(json.dumps(chosen, indent=1) + "\n")


def table(model: Model, chosen: Mapping[str, Chain], out: Path | None) -> None:
    """One line a method: mAP@100 with its interval, seen and unseen landmarks, the paired difference, seconds."""
    runs, seconds = {}, {}
    for name, chain in {BASELINE: (), **chosen}.items():
        runs[name], seconds[name] = model.score(chain, resamples=2000)
    groups = ("Private", "Private and Public", "landmarks trained on", "landmarks not trained on")
    differences = {
        (found.run, found.group): found for found in compare(runs) if found.group == "Private and Public"
    }
    print(
        "| method | Private | both | 95 % | trained on | not trained on | difference (95 %) | p (Holm) | s |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, found in runs.items():
        values = {number.group: number for number in found.report.numbers if number.name == "mAP@100"}
        cells = [f"{values[group].value:.4f}" if group in values else "-" for group in groups]
        both = values["Private and Public"]
        cells.insert(2, f"{both.low:.3f}-{both.high:.3f}")
        against = differences.get((name, "Private and Public"))
        if against is not None:
            cells.append(f"{against.value:+.4f} ({against.low:+.3f} to {against.high:+.3f})")
            cells.append(f"{against.test.p:.4f} ({against.p_holm:.3f})")
        else:
            cells += ["", ""]
        print(f"| {name} | {' | '.join(cells)} | {seconds[name]:.1f} |")
    if out is not None:
        out.write_text(json.dumps({name: asdict(found.report) for name, found in runs.items()}, indent=1))


def main() -> None:
    """Parse, choose or tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["choose", "table"])
    parser.add_argument("models", nargs="+", metavar="COLLECTION:MEASURED")
    parser.add_argument("--bank", help="descriptors of another vote bank than that in MEASURED (table)")
    parser.add_argument("--chosen", type=Path, help="what choose wrote (table)")
    parser.add_argument(
        "--unseen", type=float, default=1 / 7, help="weight of landmarks not trained on (choose)"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    models = [Model(named, arguments.bank) for named in arguments.models]
    if arguments.what == "choose":
        choose(models, arguments.out, unseen=arguments.unseen)
    else:
        table(models[0], json.loads(arguments.chosen.read_text()), arguments.out)


if __name__ == "__main__":
    main()
