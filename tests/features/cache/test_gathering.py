from pathlib import Path

import numpy as np
from seeded_rows import made, write

from mirip.features.cache.rows import Gathering, as_keys, read_rows


def test_rows_are_gathered_from_several_files_in_key_order(tmp_path: Path) -> None:
    gathering = Gathering(made([1, 2, 3, 4, 9])[0])
    for name, seeds in (("a.h5", [2, 3, 7]), ("b.h5", [1, 3, 9]), ("c.h5", [20])):
        gathering.add(read_rows(write(tmp_path / name, seeds)))
    assert gathering.missing.tolist() == made([4])[0].tolist()
    gathering.add(read_rows(write(tmp_path / "d.h5", [4])))
    assert (np.concatenate(list(gathering.blocks())) == made([1, 2, 3, 4, 9])[1]).all()


def test_nothing_can_be_gathered_for_no_keys(tmp_path: Path) -> None:
    gathering = Gathering(as_keys([]))
    gathering.add(read_rows(write(tmp_path / "a.h5", [1])))
    assert not len(gathering.missing)
