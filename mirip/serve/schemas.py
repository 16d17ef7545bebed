"""What the API answers with, as its description shows it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Percentile = Annotated[float, Field(ge=0, le=100)]
MOST_SCORE = 1e6  # far beyond what a model gives
Probability = Annotated[float, Field(ge=0, le=1)]


class _Schema(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class ModelReference(_Schema):
    """Which model answered."""

    version: str = Field(description="first digits of the sha256 of the checkpoint's file")
    fingerprint: str = Field(description="of the recipe of its features")


class Answer(_Schema):
    """What every answer of the API has."""

    model: ModelReference
    milliseconds: float = Field(description="from when the images had arrived")
    request_id: str


class Problem(_Schema):
    """Why an image has no score."""

    kind: str = Field(description="missing, truncated, not_an_image, unsupported, too_large or type_mismatch")
    problem: str
    advice: str


class Result(_Schema):
    """What the model says of one image."""

    score: float = Field(description="higher is better")
    percentile: Percentile
    percentile_low: Percentile = Field(description="it lies above this in 19 of 20 draws of the model of P")
    percentile_high: Percentile = Field(description="and below this likewise")
    tier: str | None = Field(description="the likeliest tier; null, undecided, where all others together are likelier")
    tier_probabilities: dict[str, Probability] = Field(description="best tier first; they sum to 1")
    flags: list[Literal["small", "turned_upright", "seen_in_training", "unlike_training_images"]]


class ImageAnswer(_Schema):
    """An image by its place in the request, from 0, with its result or what is wrong with it."""

    index: int
    result: Result | None = None
    problem: Problem | None = None


class ScoreAnswer(Answer):
    """A result or a problem for each image, in the order of the request."""

    images: list[ImageAnswer]


class Pair(_Schema):
    """Two images by their places in the request, and which is better."""

    a: int
    b: int
    p_a_is_better: Probability
    better: int | None = Field(description="null where the pair is too close to call")


class CompareAnswer(ScoreAnswer):
    """The same, and each pair of images with a result."""

    pairs: list[Pair]
    min_confidence: Probability


class Place(_Schema):
    """The place of an image, from 1, and the 5th and 95th percentile of the places that it may have."""

    index: int
    place: int
    first: int
    last: int


class Band(_Schema):
    """Places, from 1, within which every pair is too close to call."""

    first: int
    last: int


class RankAnswer(CompareAnswer):
    """The same, and the order, the best first."""

    order: list[Place]
    bands: list[Band]


class Scores(_Schema):
    """Scores of one model, to be put in order."""

    model_config = ConfigDict(extra="forbid")

    scores: Annotated[list[Annotated[float, Field(ge=-MOST_SCORE, le=MOST_SCORE)]], Field(min_length=1)]
    context: str | None = Field(None, description="give percentiles within this context of the training split")


class PercentileOf(_Schema):
    """The percentile of a score among the training images, and its range; see a result."""

    percentile: Percentile
    percentile_low: Percentile
    percentile_high: Percentile


class OrderAnswer(Answer):
    """The order of scores, the best first; `index`, `a` and `b` are their places in the request, from 0.

    `percentiles` are in the order of the request.
    """

    percentiles: list[PercentileOf]

    order: list[Place]
    bands: list[Band]
    pairs: list[Pair]
    min_confidence: Probability


class ModelAnswer(_Schema):
    """What the server knows of its model."""

    model: ModelReference
    tiers: list[str] = Field(description="best first")
    contexts: list[str] = Field(description="within which a percentile can be given")
    min_confidence: Probability
    recipe: dict[str, str | int | float | None] = Field(description="of its features")
    limits: dict[str, int] = Field(description="images of a request, and bytes and pixels of an image")


class Health(_Schema):
    """Whether the server is what was asked."""

    status: Literal["alive", "ready", "not ready"]
    reason: str = ""
