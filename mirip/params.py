"""params.yaml as frozen, validated objects: a section a stage, beside `data` and the named `recipes`.

The defaults are those of the product: a recipe needs no more than its backbone, and `mirip train` works with
no file at all. The project's own params.yaml spells every key out, so that DVC sees each value that a result
depends on. An unknown key is an error that lists the valid ones.
"""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mirip.errors import ParamsError
from mirip.files import is_url

IMPORTED = "import:"
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")

Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Device = Literal["auto", "cpu", "cuda"]
EngineName = Literal["local", "ray"]
LinearMethod = Literal["ridge", "logistic"]
Member = Literal["head", "ridge", "logistic"]


class _InvalidError(ValueError):
    """A value that cannot be used, in the two parts of a MiripError; pydantic hands it on."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}: {advice}")
        self.problem, self.advice = problem, advice


def _as_names(value: Any) -> Any:
    """Read null as no name, one string as one name; names are compared in Unicode NFC."""
    if value is None:
        return ()
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        return names
    return [unicodedata.normalize("NFC", name) if isinstance(name, str) else name for name in names]


def plain_label(text: str) -> str:
    """Return a tier, group or context as it is compared: in Unicode NFC, 1 for 1.0."""
    normal = unicodedata.normalize("NFC", text)
    return match[1] if (match := _WHOLE_NUMBER.fullmatch(normal)) else normal


def _as_labels(value: Any) -> Any:
    """Read numbers as the text that stands in a table: [1, 2, 3] needs no quotes. Text is compared in Unicode NFC."""
    if not isinstance(value, list | tuple):
        return value
    labels = []
    for item in value:
        if isinstance(item, bool) or item is None:
            raise _InvalidError(f"{item!r} is not text", "put the names in quotes")
        labels.append(plain_label(str(item).strip()))
    if len(set(labels)) < len(labels):
        raise _InvalidError(f"tiers must differ from each other, got {', '.join(labels)}", "name each tier once")
    return labels


def image_location(value: Any) -> Any:
    """Return where images are: a URL as the text that it is, s3://bucket/prefix, anything else as a path."""
    return value if not isinstance(value, str) or is_url(value) else Path(value)


def _known_pooling(value: str) -> str:
    if not re.fullmatch(r"cls|mean|cls\+mean|cls_last_[1-9][0-9]?", value):
        raise _InvalidError(
            f"unknown pooling {value!r}", "choose cls, mean, cls+mean, or cls_last_<n> such as cls_last_4"
        )
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]
Pooling = Annotated[str, AfterValidator(_known_pooling)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class DataParams(_Section):
    """What the user points at: images, metadata, tiers best first, and what the columns mean.

    `images` is a folder, the file of a listing (mirip.data.image_listing), or a URL.
    """

    images: Annotated[Path | str, BeforeValidator(image_location)]
    metadata: Path
    tiers: Annotated[tuple[str, ...], BeforeValidator(_as_labels), Field(min_length=2)] = ("S", "A", "B", "C")
    group: Names = ()
    context: Names = ()
    max_rejected_fraction: Fraction = 0.05


class Recipe(_Section):
    """All that decides the value of a feature: the backbone and how an image is fitted to it.

    Batch size, workers and device are not here: they decide how fast, not what.

    A backbone "import:<model and version>" names a model whose features are imported (`mirip cache import`), never
    computed here: that name says what they are, and `stored_dtype` is the only other field with a meaning.
    """

    backbone: str = "facebook/dinov2-large"
    revision: str | None = None
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    image_size: Annotated[int, Field(ge=14, le=4096)] = 768
    fit: Literal["pad", "squash", "native"] = "pad"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    pooling: Pooling = "cls"
    normalize: Literal["none", "l2"] = "none"
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    stored_dtype: Literal["float16", "float32"] = "float16"

    @property
    def imported(self) -> bool:
        """Whether its features are imported, never computed here."""
        return self.backbone.startswith(IMPORTED)

    @model_validator(mode="after")
    def _nothing_to_compute_by(self) -> Self:
        if not self.imported:
            return self
        if not self.backbone.removeprefix(IMPORTED).strip():
            raise _InvalidError(f"backbone {self.backbone!r} names no model", f"write {IMPORTED}<model and version>")
        for name, field in type(self).model_fields.items():
            if name not in ("backbone", "stored_dtype") and (value := getattr(self, name)) != field.default:
                raise _InvalidError(
                    f"{name} {value!r} has no meaning for {self.backbone}, whose features are imported as they are",
                    "leave it out",
                )
        return self


class SampleParams(_Section):
    """The procedural drawings that a fresh clone starts with."""

    seed: Seed = 42
    n_images: Annotated[int, Field(ge=40)] = 600
    n_artists: Annotated[int, Field(ge=20)] = 400


class PrepareParams(_Section):
    """Validation of metadata and images."""

    near_duplicate_bits: Annotated[int, Field(ge=0, le=16)] = 4
    thumbnail_px: Annotated[int, Field(ge=16, le=512)] = 160
    max_image_pixels: Annotated[int, Field(ge=1)] = 200_000_000


class SplitParams(_Section):
    """Stratified split of whole groups."""

    seed: Seed = 42
    train: Annotated[float, Field(gt=0, le=1)] = 0.8
    val: Fraction = 0.1
    test: Fraction = 0.1
    max_tier_drift: Annotated[float, Field(gt=0, le=100)] = 5.0

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise _InvalidError(
                f"train, val and test must add up to 1, got {self.train} + {self.val} + {self.test}",
                "set split.train, split.val and split.test",
            )
        return self


class ExtractParams(_Section):
    """How the features are computed: which recipe, where, and how fast."""

    recipe: str = "dinov2-large"
    batch_size: Annotated[int, Field(ge=1)] = 8
    workers: Annotated[int, Field(ge=0)] = 2
    device: Device = "auto"
    engine: EngineName = "local"
    actors: Annotated[int, Field(ge=1)] | None = None


class HeadParams(_Section):
    """Sizes of the trainable layers: features -> hidden -> embedding -> score_hidden -> 1."""

    hidden_dim: Annotated[int, Field(ge=1)] = 512
    embedding_dim: Annotated[int, Field(ge=1)] = 256
    score_hidden_dim: Annotated[int, Field(ge=1)] = 64


class TrainParams(_Section):
    """Training of the projector and the score head on cached features."""

    seed: Seed = 42
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    members: Annotated[tuple[Member, ...], BeforeValidator(_as_names)] = ("head",)
    device: Device = "auto"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    loss: Literal["logistic", "margin", "squared"] = "logistic"
    margin: Annotated[float, Field(ge=0)] = 1.0
    pair_balance: Literal["natural", "balanced"] = "natural"
    pair_context: Literal["any", "same"] = "any"
    batch_size: Annotated[int, Field(ge=1)] = 32
    images_per_step: Annotated[int, Field(ge=2)] | None = None
    max_epochs: Annotated[int, Field(ge=1)] = 100
    early_stopping_patience: Annotated[int, Field(ge=1)] = 10
    gradient_clip_norm: Annotated[float, Field(gt=0)] = 1.0
    scheduler_t_max: Annotated[int, Field(ge=1)] = 100
    scheduler_eta_min: Annotated[float, Field(ge=0)] = 1e-6
    save_every_n_epochs: Annotated[int, Field(ge=0)] = 5
    calibration_folds: Annotated[int, Field(ge=2)] = 5
    head: HeadParams = HeadParams()

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        if self.members[:1] != ("head",) or len(set(self.members)) < len(self.members):
            raise _InvalidError(
                f"members must be head, then each linear member once, got [{', '.join(self.members)}]",
                "write [head], or for example [head, ridge, logistic]",
            )
        return self

    @property
    def linear_members(self) -> tuple[LinearMethod, ...]:
        """The members beside the head."""
        return tuple(name for name in self.members if name != "head")


class EvaluateParams(_Section):
    """Evaluation on the test split."""

    seed: Seed = 42
    target_accuracy: Fraction = 0.6
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    n_bootstrap: Annotated[int, Field(ge=100)] = 2000
    min_confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.6


class AuditParams(_Section):
    """Search for shortcuts: is it quality that was learned?"""

    seed: Seed = 42
    ignore: Names = ()
    n_bootstrap: Annotated[int, Field(ge=100)] = 2000
    fail_on: Literal["warning", "critical"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_folds(cls, values: Any) -> Any:
        """Leave out `folds` of an earlier version: what is audited are the folds of train.calibration_folds."""
        return (
            {name: value for name, value in values.items() if name != "folds"} if isinstance(values, dict) else values
        )


class BenchmarkParams(_Section):
    """Latency, memory and training time."""

    pair_runs: Annotated[int, Field(ge=3)] = 100
    batch_size: Annotated[int, Field(ge=1)] = 32
    train_rows: Annotated[int, Field(ge=100)] = 8000
    train_epochs: Annotated[int, Field(ge=1)] = 100


class ReportParams(_Section):
    """The page that shows a result; `notices` holds, by recipe, what a reader must know of it."""

    title: str = "Mirip"
    thumbnails: Annotated[int, Field(ge=0, le=200)] = 24
    notices: dict[str, str] = {}


class TrackParams(_Section):
    """Where results are published."""

    enabled: bool = True
    experiment: str = "mirip"
    run_name: str | None = None


def _hub_recipe(name: str, revision: str, image_size: int) -> Recipe:
    return Recipe(backbone=f"facebook/{name}", revision=revision, image_size=image_size)


RECIPES = {
    "dinov2-small": _hub_recipe("dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056", 518),
    "dinov2-base": _hub_recipe("dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415", 518),
    "dinov2-large": _hub_recipe("dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c", 768),
    "dinov2-giant": _hub_recipe("dinov2-giant", "611a9d42f2335e0f921f1e313ad3c1b7178d206d", 518),
}


class Params(_Section):
    """The whole of params.yaml."""

    data: DataParams
    recipes: dict[str, Recipe] = RECIPES
    sample: SampleParams = SampleParams()
    prepare: PrepareParams = PrepareParams()
    split: SplitParams = SplitParams()
    extract: ExtractParams = ExtractParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    audit: AuditParams = AuditParams()
    benchmark: BenchmarkParams = BenchmarkParams()
    report: ReportParams = ReportParams()
    track: TrackParams = TrackParams()

    @property
    def recipe(self) -> Recipe:
        """The active recipe, named by `extract.recipe`."""
        return self.recipes[self.extract.recipe]

    def named_recipe(self, name: str) -> Recipe:
        """Return the recipe of that name; raises ParamsError where there is none."""
        if name not in self.recipes:
            raise ParamsError(f"there is no recipe {name!r}", f"choose one of {', '.join(self.recipes)}")
        return self.recipes[name]

    @property
    def features_path(self) -> Path:
        """The cache file of the active recipe."""
        return features_path(self.extract.recipe)

    @model_validator(mode="after")
    def _known_recipe(self) -> Self:
        if self.extract.recipe not in self.recipes:
            known = ", ".join(self.recipes)
            raise _InvalidError(
                f"extract.recipe is {self.extract.recipe!r}, which is not among recipes", f"choose one of {known}"
            )
        return self


def features_path(recipe: str) -> Path:
    """Return the cache file of the recipe of that name."""
    return Path("features") / f"{recipe}.h5"


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and validate a params file.

    Raises:
        ParamsError: the file is missing, is not YAML, or holds an unknown, missing or invalid key.
    """
    return _validated(_read(Path(path)), str(path))


def override_params(path: Path | str | None, changes: Mapping[str, Any]) -> Params:
    """Read a params file, or start from the defaults, and set `changes`, keyed like "train.seed".

    Raises:
        ParamsError: as `load_params`.
    """
    values: dict[str, Any] = _read(Path(path)) if path is not None else {}
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = values
        for part in sections:
            if section.get(part) is None:
                section[part] = {}
            section = section[part]
            if not isinstance(section, dict):
                raise ParamsError(
                    f"{path}: {part} is {section!r}, expected a section with keys", f"write keys under {part}"
                )
        section[name] = value
    return _validated(values, str(path or "options"))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ParamsError(f"{path} is a folder or a device, not a file", "give a params file")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path} is not found", "run from the project's root") from None
    except yaml.YAMLError as error:
        raise ParamsError(
            f"{path} is not valid YAML ({' '.join(str(error).split())})", "mend it there, or restore it from Git"
        ) from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path} holds {type(values).__name__}, not sections", "restore it from Git")
    return values


def _validated(values: dict[str, Any], source: str) -> Params:
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problem, advice = _in_words(error)
        raise ParamsError(f"{source}: {problem}", advice) from None


def _in_words(error: ValidationError) -> tuple[str, str]:
    """Say the first problem of a validation in one line, and what to do about it where that is known."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}", f"valid keys here are {', '.join(_fields_at(first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"missing key {where}", "add it"
    message = str(first["msg"]).removeprefix("Value error, ")
    if isinstance(invalid := first.get("ctx", {}).get("error"), _InvalidError):
        return (f"{where}: {invalid.problem}" if first["loc"] else invalid.problem), invalid.advice
    return f"{where}: {message}, got {first['input']!r}", ""


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    if location[:1] == ("recipes",):
        return list(Recipe.model_fields)
    section: type[BaseModel] = Params
    for part in location:
        section = section.model_fields[str(part)].annotation  # type: ignore[assignment]
    return list(section.model_fields)
