"""What there is in a mini world: landmarks in real countries, and which photos of them are where.

Nothing is drawn here.  A plan is a value that follows from (seed, number of landmarks, number of photos).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from landseer.datasets.miniworld.buildings import STYLES

COUNTRIES: tuple[tuple[str, str, float, float, float, float], ...] = (
    # code, continent, latitude, longitude, how far from there in degrees, share of landmarks
    ("FR", "EU", 46.8, 2.5, 1.5, 8.0),
    ("DE", "EU", 51.0, 10.0, 1.5, 5.0),
    ("IT", "EU", 43.2, 11.8, 0.5, 4.0),
    ("GB", "EU", 52.5, -1.5, 0.8, 3.0),
    ("US", "NA", 39.0, -98.0, 5.0, 6.0),
    ("MX", "NA", 22.0, -101.5, 1.5, 2.0),
    ("IN", "AS", 22.5, 78.5, 2.5, 4.0),
    ("JP", "AS", 36.2, 138.3, 0.4, 3.0),
    ("CN", "AS", 33.0, 108.0, 3.0, 2.0),
    ("BR", "SA", -10.0, -52.0, 4.0, 2.0),
    ("PE", "SA", -9.5, -75.5, 0.7, 1.5),
    ("EG", "AF", 27.0, 30.0, 1.5, 1.5),
    ("ML", "AF", 15.0, -5.5, 0.8, 1.0),
    ("NA", "AF", -21.0, 17.0, 1.5, 0.5),
    ("AU", "OC", -25.0, 134.0, 4.0, 2.0),
    ("NZ", "OC", -38.7, 175.8, 0.3, 1.0),
)
SUPERCATEGORY = {"church": "place of worship", "mosque": "place of worship", "pagoda": "place of worship",
                 "castle": "fortification", "fort": "fortification", "lighthouse": "tower",
                 "mausoleum": "tomb", "tomb": "tomb", "pyramid": "archaeological site"}  # fmt: skip
CATEGORY_URL = "http://commons.wikimedia.org/wiki/Category:"
DUPLICATE_SHARE, WRONG_SHARE = 0.04, 0.10
OTHER_SHARES = {"train": 0.08, "index": 0.06, "test": 0.03}
"""Photos of no landmark in each split, as shares of all photos."""
INTERIOR_LANDMARKS, INTERIOR_SHARE = 0.4, 0.35
_FIRST_STRANGER = 10**9


@dataclass(frozen=True, slots=True)
class Landmark:
    """One landmark.  ``train_label`` is None where no train photo shows it."""

    number: int
    name: str
    kind: str
    country: str
    continent: str
    latitude: float
    longitude: float
    has_interior: bool
    train_label: int | None
    index_label: int

    @property
    def category(self) -> str:
        """The page that both numberings share."""
        return CATEGORY_URL + self.name.replace(" ", "_")


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo and the truth about it."""

    number: int
    id: str
    split: str
    view: str
    """``exterior``, ``interior`` or ``none``."""
    landmark: Landmark | None
    """What it shows."""
    label: int | None = None
    """What train.csv says it shows."""
    source: Photo | None = None
    """What it is a near-duplicate of."""
    usage: str = ""
    """Of a test photo: Public, Private or Ignored."""

    @property
    def wrong_label(self) -> bool:
        """Whether train.csv names a landmark that it does not show."""
        return self.label is not None and (self.landmark is None or self.landmark.train_label != self.label)


@dataclass(frozen=True)
class World:
    """All landmarks and photos; ``noise_labels`` are train labels under which no landmark is shown at all."""

    landmarks: tuple[Landmark, ...]
    noise_labels: tuple[int, ...]
    photos: tuple[Photo, ...]

    def of(self, split: str) -> list[Photo]:
        """The photos of one split."""
        return [photo for photo in self.photos if photo.split == split]


def plan_world(*, seed: int, num_landmarks: int, num_photos: int) -> World:
    """Decide what exists.  Raises ``ValueError`` for sizes that leave a landmark without enough photos."""
    if num_landmarks < 6:
        raise ValueError(f"a mini world needs at least 6 landmarks, one a continent; got {num_landmarks}")
    if num_photos < 14 * num_landmarks:
        raise ValueError(
            f"{num_landmarks} landmarks need at least {14 * num_landmarks} photos; got {num_photos}"
        )
    rng = np.random.default_rng([seed, 0])
    landmarks = _landmarks(rng, num_landmarks)
    taken = {landmark.train_label for landmark in landmarks}
    noise = [label for label in range(9001, 9001 + 2 * num_landmarks) if label not in taken]
    noise = noise[: max(1, num_landmarks // 10)]
    photos = _landmark_photos(rng, landmarks, num_photos)
    for split, share in OTHER_SHARES.items():
        labels = [landmark.train_label for landmark in landmarks if landmark.train_label is not None]
        for i in range(round(share * num_photos)):
            # one third of train's goes to classes of pure noise, the rest under the names of landmarks
            label = int(rng.choice(noise if i % 3 == 0 else labels)) if split == "train" else None
            photos.append((split, "none", None, label))
    return World(landmarks, tuple(noise), _finished(rng, seed, photos, num_photos))


def strangers(seed: int, num: int) -> list[Photo]:
    """Photos of no landmark that are no part of the world, numbered on from where no world gets to."""
    return [
        Photo(number, _photo_id(seed, number), "none", "none", None)
        for number in range(_FIRST_STRANGER, _FIRST_STRANGER + num)
    ]


def _landmarks(rng: np.random.Generator, count: int) -> tuple[Landmark, ...]:
    shares = np.array([country[5] for country in COUNTRIES])
    continents = [country[1] for country in COUNTRIES]
    # the greatest of each continent first, then whoever is furthest below its share
    chosen = [continents.index(continent) for continent in dict.fromkeys(continents)]
    while len(chosen) < count:
        have = np.bincount(chosen, minlength=len(COUNTRIES))
        chosen.append(int(np.argmax(shares / (have + 0.5))))
    train_labels = rng.choice(np.arange(100, 100 + 12 * count), size=count, replace=False)
    index_labels = rng.permutation(np.arange(100, 100 + count))
    inside = rng.permutation(count) < round(INTERIOR_LANDMARKS * count)
    names: list[str] = []
    seen: dict[str, int] = {}
    landmarks = []
    for number, row in enumerate(chosen):
        code, continent, latitude, longitude, spread, _ = COUNTRIES[row]
        kinds = tuple(STYLES[continent])
        kind = kinds[seen.get(continent, 0) % len(kinds)]
        seen[continent] = seen.get(continent, 0) + 1
        names.append(_name(rng, kind, names))
        landmarks.append(
            Landmark(
                number, names[-1], kind, code, continent,
                round(latitude + float(rng.uniform(-spread, spread)), 4),
                round(longitude + float(rng.uniform(-spread, spread)), 4),
                bool(inside[number]),
                None if number % 6 == 5 else int(train_labels[number]), int(index_labels[number]),
            )
        )  # fmt: skip
    return tuple(landmarks)


def _name(rng: np.random.Generator, kind: str, taken: list[str]) -> str:
    """An invented name; some have a comma, as real categories do."""
    starts = (
        "Al",
        "Bel",
        "Cor",
        "Dun",
        "Es",
        "Fal",
        "Gar",
        "Hol",
        "Il",
        "Kar",
        "Lor",
        "Mon",
        "Nor",
        "Or",
        "Pel",
        "San",
        "Tor",
        "Val",
    )
    ends = ("mar", "vera", "heim", "ton", "dria", "stad", "mora", "quin", "bek", "lune", "sall", "wick")
    while True:
        place = str(rng.choice(starts)) + str(rng.choice(ends))
        name = f"{kind.title()}, {place}" if rng.random() < 0.25 else f"{place} {kind.title()}"
        if not any(place in other for other in taken):
            return name


Draft = tuple[str, str, "Landmark | None", "int | None"]


def _landmark_photos(
    rng: np.random.Generator, landmarks: tuple[Landmark, ...], num_photos: int
) -> list[Draft]:
    """Split, view, landmark and train label of every photo that shows a landmark and is no copy."""
    count = num_photos - round(DUPLICATE_SHARE * num_photos)
    count -= sum(round(share * num_photos) for share in OTHER_SHARES.values())
    least = 6
    tail = (rng.permutation(len(landmarks)) + 2.0) ** -0.6
    sizes = least + np.floor((count - least * len(landmarks)) * tail / tail.sum()).astype(int)
    sizes[np.argmax(sizes)] += count - sizes.sum()
    labels = [landmark.train_label for landmark in landmarks if landmark.train_label is not None]
    drafts: list[Draft] = []
    for landmark, size in zip(landmarks, sizes.tolist(), strict=True):
        known = landmark.train_label is not None
        test = max(1, round(size * (0.13 if known else 0.35)))
        index = max(2, round(size * 0.27)) if known else size - test
        splits = ["test"] * test + ["index"] * index + ["train"] * (size - test - index)
        for split in splits:
            inside = landmark.has_interior and rng.random() < INTERIOR_SHARE
            label = landmark.train_label if split == "train" else None
            if label is not None and rng.random() < WRONG_SHARE:
                label = int(rng.choice([other for other in labels if other != label]))
            drafts.append((split, "interior" if inside else "exterior", landmark, label))
    return drafts


def _finished(rng: np.random.Generator, seed: int, drafts: list[Draft], num_photos: int) -> tuple[Photo, ...]:
    """Shuffle, number and name the drafts, and add near-duplicates: each in the split of its source."""
    sources = rng.choice(len(drafts), size=num_photos - len(drafts), replace=False)
    numbers = rng.permutation(num_photos).tolist()
    usages = rng.choice(["Public", "Private", "Ignored"], p=(0.32, 0.63, 0.05), size=num_photos)

    def photo(number: int, draft: Draft, source: Photo | None = None) -> Photo:
        name = _photo_id(seed, number)
        split, view, landmark, label = draft
        usage = str(usages[number]) if split == "test" else ""
        return Photo(number, name, split, view, landmark, label, source, usage)

    photos = [photo(number, draft) for number, draft in zip(numbers, drafts, strict=False)]
    for number, row in zip(numbers[len(drafts) :], sources.tolist(), strict=True):
        photos.append(photo(number, drafts[row], photos[row]))
    return tuple(sorted(photos, key=lambda each: each.number))


def _photo_id(seed: int, number: int) -> str:
    return hashlib.sha256(f"landseer mini world {seed}/{number}".encode()).hexdigest()[:16]
