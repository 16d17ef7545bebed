"""How long a name or a text may be in MLflow, and how it is shortened: the same text always to the same."""

from mirip.files import sha256_bytes

# What every database takes; sqlite would take more.
MAX_RUN_NAME_CHARS = 250
MAX_EXPERIMENT_NAME_CHARS = 256
MAX_KEY_CHARS = 250  # of a param, a metric or a tag
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 5000

_DIGEST_CHARS = 8


def fitted(text: str, max_chars: int) -> str:
    """Return a text that is not too long: of one that is, the beginning and some digits of its digest.

    So two long texts stay two, also where they differ only at their end. What no database takes (NUL) is left out.
    """
    text = text.replace("\0", "")
    if len(text) <= max_chars:
        return text
    return f"{text[: max_chars - _DIGEST_CHARS - 1]}-{sha256_bytes(text.encode())[:_DIGEST_CHARS]}"


def run_name(name: str) -> str:
    """Return the name of a run as MLflow gets it."""
    return fitted(name, MAX_RUN_NAME_CHARS)


def experiment_name(name: str) -> str:
    """Return the name of an experiment as MLflow gets it."""
    return fitted(name, MAX_EXPERIMENT_NAME_CHARS)
