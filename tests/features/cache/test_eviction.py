from dataclasses import replace
from pathlib import Path

from mirip.features.cache.eviction import evict, order_of_removal
from mirip.features.cache.inventory import Holding
from mirip.locks import locked_file

DAY = 86_400.0


def holding(fingerprint: str, days_ago: float, *names: str, locked: bool = False) -> Holding:
    return Holding(fingerprint, 1, 0, 5, 100, -days_ago * DAY, locked, None, names)


OLD, NEW = holding("old", 90), holding("new", 1)
OTHER, MINE = holding("other", 99, "dinov2-large"), holding("mine", 98, "mine")
ALL = [OTHER, MINE, OLD, NEW]


def names(holdings: list[Holding]) -> list[str]:
    return [holding.fingerprint for holding in holdings]


def test_rows_of_no_recipe_go_before_those_of_one_and_those_of_the_active_one_last() -> None:
    assert names(order_of_removal(ALL, "mine", also_active=True)) == ["old", "new", "other", "mine"]
    assert names(order_of_removal(ALL, "mine", also_active=False)) == ["old", "new", "other"]


def removed(tmp_path: Path, *, max_bytes: int | None = None, unused_days: float | None = None) -> list[str]:
    candidates = order_of_removal(ALL, "mine", also_active=False)
    done = evict(tmp_path, ALL, candidates, now=0, max_bytes=max_bytes, unused_days=unused_days, dry_run=True)
    assert done.bytes_left == 400 - done.bytes_freed
    return names(done.removed)


def test_no_more_goes_than_has_to(tmp_path: Path) -> None:
    assert removed(tmp_path, max_bytes=400) == []
    assert removed(tmp_path, max_bytes=399) == ["old"]
    assert removed(tmp_path, max_bytes=200) == ["old", "new"]
    assert removed(tmp_path, max_bytes=0) == ["old", "new", "other"]


def test_what_is_old_counts_towards_the_size(tmp_path: Path) -> None:
    assert removed(tmp_path, unused_days=50) == ["old", "other"]
    assert removed(tmp_path, unused_days=50, max_bytes=200) == ["old", "other"]
    assert removed(tmp_path, unused_days=50, max_bytes=100) == ["old", "other", "new"]


def test_what_is_in_work_stays_and_the_next_goes(tmp_path: Path) -> None:
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
        (folder / "shard.h5").write_bytes(b"rows")
    with locked_file(tmp_path / "old.lock"):
        done = evict(tmp_path, [OLD, NEW], [OLD, NEW], now=0, max_bytes=100)
    assert (names(done.locked), names(done.removed)) == (["old"], ["new"])
    assert [folder.exists() for folder in folders] == [True, False]
    assert not (tmp_path / "new.lock").exists()


def test_what_a_killed_clean_up_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".0123.tmp").mkdir()
    (tmp_path / ".0123.tmp" / "shard.h5").write_bytes(b"rows")
    evict(tmp_path, [], [], now=0, max_bytes=0)
    assert not list(tmp_path.iterdir())


def test_imported_rows_which_nothing_can_compute_again_stay_unless_asked_for() -> None:
    imported = replace(holding("imported", 200), recipe={"model_type": "imported"})
    assert names(order_of_removal([*ALL, imported], "mine", also_active=False)) == ["old", "new", "other"]
    assert "imported" in names(order_of_removal([*ALL, imported], "mine", also_active=True))


def test_what_another_clean_up_has_removed_is_no_error(tmp_path: Path) -> None:
    done = evict(tmp_path, [OLD], [OLD], now=0, max_bytes=0)
    assert (names(done.removed), names(done.locked)) == (["old"], [])
    assert list(tmp_path.iterdir()) == []
