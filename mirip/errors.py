"""Every error that Mirip raises, as one tree.

MiripError
├── ParamsError          a value in params.yaml or on the command line is unknown, missing or out of range
├── DataError            something is wrong with what the user gave us
│   ├── MetadataError    the metadata table: its columns, tiers or rows
│   ├── ImageError       one image file: missing, truncated, not an image, of a kind that is not read, too large
│   └── SplitError       no split keeps the promises (whole groups, tier shares)
├── StoreError           an object store denies access, is not found, or stays unavailable
├── BackboneError        a backbone cannot be found, loaded or verified
├── CacheError           the feature cache is damaged, incomplete or of another recipe
│   └── SchemaError      a file of features has the form of another version
├── EngineError          an engine that computes features cannot start, or ended midway
├── CheckpointError      a checkpoint cannot be read or does not belong to these features
├── TrackingError        a result could not be published
│   └── PromotionError   a run cannot become champion: which run is not clear, or it is not shown to be better
├── LockError            dvc.lock does not agree with code, params and what Git holds
└── AuditError           the audit found what audit.fail_on says must not pass

An error has two parts: the problem (what happened, with the value seen and the value expected) and the advice (the
command or the edit that mends it). Stages and the command line print both in one line and exit with 1; only a bug shows
a traceback. Whoever needs one part takes `error.problem` or `error.advice`, and never cuts the text apart.
"""


class MiripError(Exception):
    """Base of every error that a user can cause and mend.

    Args:
        problem: what happened, with the value seen and the value expected; one line without a full stop.
        advice: the command or the edit that mends it; empty where there is nothing to advise.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(problem, advice)
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.problem}: {self.advice}" if self.advice else self.problem


class ParamsError(MiripError):
    """A parameter is unknown, missing or out of range."""


class DataError(MiripError):
    """The data that the user gave is not usable as it is."""


class MetadataError(DataError):
    """The metadata table lacks a column, has no usable row, or names an unknown tier."""


class ImageError(DataError):
    """An image file is missing, truncated, not an image, of a kind that is not read, or too large to decode.

    Args:
        problem: one line, without the file's path where the caller knows it.
        advice: as in MiripError.
        kind: missing, truncated, not_an_image, unsupported, too_large or outside.
    """

    def __init__(self, problem: str, advice: str = "", *, kind: str = "not_an_image") -> None:
        super().__init__(problem, advice)
        self.kind = kind


class SplitError(DataError):
    """No split of the data keeps whole groups together and the tier shares close."""


class StoreError(MiripError):
    """An object store denies access, is not found, or stays unavailable: that is the fault of no one image."""


class BackboneError(MiripError):
    """A backbone cannot be found, loaded, or is not the one that the recipe pins."""


class CacheError(MiripError):
    """The feature cache is damaged, incomplete, or was built by another recipe."""


class SchemaError(CacheError):
    """A file of features has the form that another version of Mirip writes."""


class EngineError(MiripError):
    """An engine that computes features cannot be started, or ended before all were computed."""


class CheckpointError(MiripError):
    """A checkpoint cannot be read, or was trained on features of another fingerprint."""


class TrackingError(MiripError):
    """A result could not be published to the tracking server."""


class LockError(MiripError):
    """dvc.lock records other code, params or results than those that stand in the working tree."""


class PromotionError(TrackingError):
    """A run cannot become champion: it cannot be told, holds no model, or is not shown to be better."""


class AuditError(MiripError):
    """The audit, once written, holds a finding of the severity at which it is to fail."""
