"""The shapes of requests and answers, for the OpenAPI file; answers are not checked against them while serving."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(description="A photo's id in the index.", examples=["rome/a.jpg"])]
Landmark = Annotated[int, Field(ge=-(2**62), le=2**62, examples=[12])]
Name = Annotated[str, Field(min_length=1, max_length=200, examples=["Colosseum"])]
Share = Annotated[float, Field(ge=-1, le=1)]


class Strict(BaseModel):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Error(BaseModel):
    """One clear line."""

    error: str


class Photo(BaseModel):
    """A photo of the index."""

    id: Id
    landmark: int | None
    landmark_name: str | None
    country: str | None = Field(description="ISO 3166 alpha-2; of the photo, else of its landmark.")
    taken: str | None = Field(examples=["2019-07-14T12:00:05.000"])
    latitude: float | None
    longitude: float | None
    place: str | None = Field(description="Whose position that is: the photo's or the landmark's.")


class PhotoRecord(Photo):
    """With the index's own columns."""

    more: dict[str, Any]


class Answer(Photo):
    """A photo like the query."""

    rank: int
    score: float
    why: str | None = Field(
        description="Why re-ranking moved it.", examples=["57 -> 3: landmark 12 voted ..."]
    )


class Vote(BaseModel):
    """What some of the voters say."""

    landmark: int
    name: str
    country: str | None
    share: Share
    photos: list[Id]


class Recognition(BaseModel):
    """Which landmark it is."""

    known: bool
    landmark: int | None
    name: str | None
    country: str | None
    confidence: float
    calibrated: bool
    votes: list[Vote]


class Question(BaseModel):
    """What was asked."""

    id: str | None
    width: int | None
    height: int | None
    crop: list[float] | None
    box: list[float] | None = Field(
        description="Where the main object seems to be: left, top, right, bottom."
    )


class Seconds(BaseModel):
    """Where the time went."""

    decode: float
    model: float
    search: float
    rerank: float
    total: float


class Found(BaseModel):
    """The answer to a search."""

    query: Question
    recognition: Recognition | None
    answers: list[Answer]
    seconds: Seconds


class Index(BaseModel):
    """What the index holds, and what may be done with it."""

    name: str
    photos: int
    labelled: int
    landmarks: int
    countries: int
    located: int
    dated: int
    model: str
    reranking: bool
    writable: bool
    token_needed: bool
    columns: list[str]
    version: str
    calibrated: bool


class Points(BaseModel):
    """What two photos have in common: x and y in the first, x and y in the second, in fractions."""

    inliers: int
    points: list[list[float]]


class Photos(BaseModel):
    """A page of photos."""

    photos: list[PhotoRecord]
    next: int | None
    total: int


class LandmarkRow(BaseModel):
    """A landmark that photos show."""

    landmark: int
    name: str
    photos: int
    country: str | None
    latitude: float | None
    longitude: float | None
    cover: Id


class Landmarks(BaseModel):
    """A page of landmarks."""

    landmarks: list[LandmarkRow]
    next: int | None
    total: int


class Country(BaseModel):
    """A country of photos."""

    country: str
    name: str
    photos: int
    landmarks: int


class Unreadable(BaseModel):
    """A photo that was sent and cannot be kept."""

    name: str = Field(description="Its number among those sent, from 1: names of files are not read.")
    reason: str


class Added(BaseModel):
    """What became of the photos that were sent."""

    added: list[Id]
    there_already: list[Id]
    unreadable: list[Unreadable]


class RunTag(BaseModel):
    """Why queries failed, by a written rule."""

    tag: str
    name: str
    rule: str
    queries: int


class RunConfusion(BaseModel):
    """For which other landmark one is taken most often, among the first five answers to its queries."""

    landmark: int
    name: str
    queries: int
    taken_for: int
    taken_for_name: str
    answers: int


class RunDifference(BaseModel):
    """Mean average precision minus the other's: with its 95 % interval, and how likely it is by chance."""

    value: float
    low: float
    high: float
    p: float
    queries: int
    group: str


class Run(BaseModel):
    """A finished run."""

    name: str
    title: str
    warnings: list[str]
    photos: int
    queries: int
    failed: int
    mean_ap: float
    other: str | None = Field(description='The run it is compared with, or "untrained".')
    other_mean_ap: float | None
    difference: RunDifference | None
    reranking: list[str]
    tags: list[RunTag] = Field(description="Counted over the landmark that is asked for, if any.")
    landmark_name: str | None
    confusions: list[RunConfusion]
    version: str
    index: bool = Field(description="Whether the server answers photos, too.")


class RunAnswer(BaseModel):
    """One answer to a query, judged by the truth."""

    rank: int
    id: str
    verdict: Literal["right", "wrong", "junk"]
    landmark: int | None
    landmark_name: str | None
    score: float
    cosine: float
    why: str | None


class RunQuery(BaseModel):
    """How a query was answered."""

    id: str
    landmark: int | None
    landmark_name: str | None
    trained: bool | None
    ap: float | None
    other_ap: float | None
    change: float | None
    num_right: int
    first_right: int | None
    other_first_right: int | None
    tags: list[str]
    answers: list[RunAnswer]
    other_answers: list[RunAnswer] | None


class RunQueryInFull(RunQuery):
    """With 50 answers."""

    nearest_right: float | None = Field(
        description="Highest cosine of a right photo of the gallery; null where it has none."
    )


class RunQueries(BaseModel):
    """A page of queries."""

    queries: list[RunQuery]
    next: int | None
    total: int


class Pair(Strict):
    """Two photos of the index."""

    a: str
    b: str


class Label(Strict):
    """What a photo shows: a landmark by number (null: not known), or by name."""

    landmark: Landmark | None = None
    landmark_name: Name | None = None


class Renaming(Strict):
    """What a landmark is called."""

    name: Name


class Merging(Strict):
    """Landmarks that are one."""

    into: Landmark
    others: list[Landmark] = Field(alias="from", min_length=1, max_length=1000)


class Splitting(Strict):
    """Photos that show a landmark of their own."""

    photos: list[str] = Field(min_length=1, max_length=10_000)
    name: Name


class Session(Strict):
    """The token, once."""

    token: str = Field(max_length=1000)


class Changed(BaseModel):
    """How many photos are now labelled otherwise, or gone."""

    photos: int


class Labelled(BaseModel):
    """The landmark that is shown now."""

    landmark: int | None
