"""Draw ``docs/images/answers.jpg``: queries of the mini world, each with its first answers, from a finished demo.

Run ``landseer demo``, then ``python docs/make_picture.py demo``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from landseer.photos import decode, read_bytes, resize_longest
from landseer.storage import load_collection, load_ranking, read_table
from landseer.types import Collection

SIDE, GAP, MARK, NUM_ANSWERS, NUM_QUERIES = 150, 8, 6, 7, 3
RIGHT, WRONG, PAPER, INK = (0, 114, 178), (213, 94, 0), (255, 255, 255), (60, 60, 60)


def main(demo: Path, out: Path) -> None:
    """Write the picture of the demo in the folder *demo* to *out*."""
    collection = load_collection(demo / "collection", root=demo.resolve() / "photos")
    ranking = load_ranking(demo / "run" / "trained" / "ranking")
    chosen = _spread(demo / "run" / "trained" / "retrieval" / "per_query.parquet")
    relevant = dict(zip(collection.truth.query_ids, collection.truth.relevant, strict=True))
    width = GAP + (NUM_ANSWERS + 1) * (SIDE + GAP) + 3 * GAP
    sheet = Image.new("RGB", (width, GAP + NUM_QUERIES * (SIDE + MARK + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for line, query in enumerate(chosen):
        top = GAP + line * (SIDE + MARK + GAP)
        sheet.paste(_tile(collection, query), (GAP, top))
        answers = ranking.answers(ranking.query_ids.index(query))[:NUM_ANSWERS]
        for place, (photo, _) in enumerate(answers):
            left = GAP + (place + 1) * (SIDE + GAP) + 3 * GAP
            sheet.paste(_tile(collection, photo), (left, top))
            right = photo in relevant[query]
            pen.rectangle(
                [left, top + SIDE, left + SIDE - 1, top + SIDE + MARK - 1], fill=RIGHT if right else WRONG
            )
            _mark(pen, left + SIDE - 22, top + SIDE - 22, right=right)
        pen.line([(GAP + SIDE + 2 * GAP, top), (GAP + SIDE + 2 * GAP, top + SIDE)], fill=INK, width=2)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=90, optimize=True)
    print(f"{out}: {sheet.width} x {sheet.height} px, {out.stat().st_size / 1024:.0f} kB")


def _spread(per_query: Path) -> list[str]:
    """Queries of different landmarks, a good, a middling and a poor one by average precision."""
    rows = sorted(read_table(per_query).to_pylist(), key=lambda row: (row["ap"], row["query"]))
    found: dict[int, str] = {}
    for quantile in (0.8, 0.5, 0.2):
        row = next(row for row in rows[int(quantile * len(rows)) :] if row["landmark"] not in found)
        found[row["landmark"]] = row["query"]
    return list(found.values())


def _tile(collection: Collection, photo: str) -> Image.Image:
    path = collection.paths[collection.ids.index(photo)]
    pixels = resize_longest(decode(read_bytes(collection.root, path)), SIDE)
    tile = np.full((SIDE, SIDE, 3), 238, dtype=np.uint8)
    top, left = (SIDE - pixels.shape[0]) // 2, (SIDE - pixels.shape[1]) // 2
    tile[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return Image.fromarray(tile)


def _mark(pen: ImageDraw.ImageDraw, x: int, y: int, *, right: bool) -> None:
    pen.ellipse([x, y, x + 18, y + 18], fill=RIGHT if right else WRONG)
    if right:
        pen.line([(x + 4, y + 9), (x + 8, y + 13), (x + 14, y + 5)], fill=PAPER, width=2)
    else:
        pen.line([(x + 5, y + 5), (x + 13, y + 13)], fill=PAPER, width=2)
        pen.line([(x + 13, y + 5), (x + 5, y + 13)], fill=PAPER, width=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "images" / "answers.jpg")
