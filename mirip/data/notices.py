"""What a user should look at in tables and images that can be used as they are, a sentence each."""

from collections.abc import Iterator, Sequence, Sized

import pandas as pd

_MOSTLY_EMPTY = 0.5
_SHOWN = 3


def empty_columns(metadata: pd.DataFrame, names: Sequence[str], parameter: str, meaning: str) -> Iterator[str]:
    """Warn of columns that a parameter names and that are empty in more than half of the rows.

    Args:
        metadata: the table as text.
        names: its columns.
        parameter: what names them, e.g. "data.group".
        meaning: what follows for the rows without a value.
    """
    for name in names:
        if (share := float((metadata[name] == "").mean())) > _MOSTLY_EMPTY:
            yield f"{parameter}: the column {name} is empty in {share:.0%} of the rows, {meaning}: it protects little"


def odd_images(manifest: pd.DataFrame, contradicting: pd.DataFrame, unlisted: Sequence[str]) -> Iterator[str]:
    """Say which images were repaired, contradict each other, or are in no row.

    Args:
        manifest: all images.
        contradicting: those of identical files with different tiers.
        unlisted: paths of image files that no row names.
    """
    repaired = manifest[manifest["repaired"] != ""]
    if len(repaired):
        first = "; ".join(f"{row.image_path} ({row.repaired})" for row in repaired.head(_SHOWN).itertuples())
        yield f"{_images_are(repaired)} damaged, used as the decoder repaired them (column repaired): {first}"
    if len(contradicting):
        of_first = contradicting[contradicting["image_sha256"] == contradicting["image_sha256"].iloc[0]]
        files = ", ".join(f"{row.image_path} ({row.tier})" for row in of_first.head(_SHOWN).itertuples())
        yield f"{_images_are(contradicting)} of identical files with different tiers, which contradict: {files}"
    if unlisted:
        yield f"{_images_are(unlisted)} below data.images and in no row: {', '.join(unlisted[:_SHOWN])}"


def _images_are(items: Sized) -> str:
    return f"{len(items)} images are" if len(items) > 1 else "1 image is"
