"""The hashes of a file of rows: which one protects what.

| hash | over | what it is for |
| --- | --- | --- |
| sha256 (`content_digest`) | all keys, then all rows | names the content, in metrics/extract.json and in checkpoints |
| XXH3 (`content_xxh3`) | the same bytes | the check on every load: twelve times as fast as sha256 |
| CRC-32 (`row_crc32`) | one key and its row | says which row is damaged; `mirip cache verify` names it |

The key is hashed with its row: a row that stands beside another row's key is found too. The header has a hash of its
own, see `form`. The store adds the sha256 of a shard's whole file, as its name: a shard is checked before it is opened.
DVC's md5 of a features file decides what is pushed and pulled.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xxhash
from numpy.typing import NDArray

KEY_DTYPE = np.dtype("S64")
CRC_DTYPE = np.dtype(np.uint32)


def quick_hash(keys: NDArray[np.bytes_]) -> xxhash.xxh3_128:
    """Return a hash (XXH3, 128 bits) of the sorted keys, to be continued with the bytes of their rows.

    It finds damage of any kind at the speed of memory, twelve times that of sha256. It is no proof against intent.
    """
    return xxhash.xxh3_128(keys.tobytes())


def hashing(blocks: Iterable[NDArray[np.floating]], quick: xxhash.xxh3_128) -> Iterator[NDArray[np.floating]]:
    """Pass blocks on, and hash them on their way."""
    for block in blocks:
        quick.update(block.data)
        yield block


def content_digest(keys: NDArray[np.bytes_], blocks: Iterable[NDArray[np.floating]]) -> str:
    """Return the sha256 over the sorted keys and then the bytes of their rows, whatever they are stored in.

    A block is hashed in a second thread while the next one is made.
    """
    digest = hashlib.sha256(keys.tobytes())
    with ThreadPoolExecutor(1) as hasher:
        hashed = None
        for block in blocks:
            if hashed is not None:
                hashed.result()  # so that no more than two are in memory
            hashed = hasher.submit(digest.update, block.data)
    return digest.hexdigest()


def row_checksums(keys: NDArray[np.bytes_], features: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Return the CRC-32 over each key's 64 bytes and then its row's bytes, (n,) uint32."""
    names, rows = (np.ascontiguousarray(values).reshape(-1).view(np.uint8).data for values in (keys, features))
    width, size, crc32 = KEY_DTYPE.itemsize, features.shape[1] * features.itemsize, zlib.crc32
    found = (
        crc32(rows[i * size : (i + 1) * size], crc32(names[i * width : (i + 1) * width])) for i in range(len(keys))
    )
    return np.fromiter(found, dtype=CRC_DTYPE, count=len(keys))
