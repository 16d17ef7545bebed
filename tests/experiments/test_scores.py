import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mirip.cli.main import main
from mirip.errors import DataError
from mirip.experiments.scores import compare_scores, read_scores
from mirip.metrics.pairwise import pairwise_accuracy

N = 120


def table(seed: int, *, noise: float = 1.0, members: int = 1) -> pd.DataFrame:
    """Scores of one model on the same test split of 40 groups."""
    rng = np.random.default_rng(0)
    rank = rng.choice(4, size=N, p=[0.25, 0.4, 0.25, 0.1])
    scores = rank + noise * np.random.default_rng(seed).normal(size=(members, N))
    frame = pd.DataFrame(
        {
            "id": [f"{k:016x}" for k in rng.permutation(N)],
            "group": [f"{k % 40:016x}" for k in range(N)],
            "tier": ["CBAS"[r] for r in rank],
            "tier_rank": rank,
            "context": "0" * 16,
            "score": scores.mean(axis=0),
        }
    )
    if members > 1:
        frame = frame.assign(**{f"score_seed_{42 + k}": scores[k] for k in range(members)})
    return frame


def write(path: Path, frame: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A Git repository of two commits, each with the scores of another model, the later one far better."""
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    for seed, noise in ((1, 6.0), (2, 0.3)):
        write(tmp_path / "metrics/scores.csv", table(seed, noise=noise))
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", "a result"], check=True)
    return tmp_path


def test_a_file_a_folder_and_a_project_are_read_the_same_way(tmp_path) -> None:
    write(tmp_path / "project/metrics/scores.csv", table(1))
    write(tmp_path / "run/scores.csv", table(1).sample(frac=1, random_state=0))
    read = [read_scores(str(tmp_path / name)) for name in ("project", "run", "run/scores.csv")]
    for other in read[1:]:
        pd.testing.assert_frame_equal(other.images, read[0].images)
        assert np.array_equal(other.members, read[0].members)


def test_two_revisions_are_compared(repository, capsys) -> None:
    assert main(["compare-models", "HEAD", "HEAD~1", "--json", "found.json"]) == 0
    printed = capsys.readouterr().out
    assert "A is better than B" in printed
    assert "the interval does not hold the spread over seeds" in printed
    found = json.loads((repository / "found.json").read_text())
    assert found["verdict"] == "better"
    best = table(2, noise=0.3)
    assert found["pairwise_accuracy_a"] == pytest.approx(pairwise_accuracy(best["score"], best["tier_rank"]))
    assert 0 < found["difference_ci_low"] < found["difference"] < found["difference_ci_high"]
    assert main(["compare-models", "HEAD~1", "HEAD"]) == 0
    assert "A is worse than B" in capsys.readouterr().out


def test_a_folder_below_the_repository_s_root_is_found_in_a_revision(repository, monkeypatch) -> None:
    write(repository / "art/metrics/scores.csv", table(3))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "a project in a folder"], check=True)
    monkeypatch.chdir(repository / "art")
    assert np.array_equal(read_scores("HEAD").members, read_scores("metrics/scores.csv").members)


def test_an_experiment_is_found_by_its_name(repository) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD~1"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["git", "update-ref", f"refs/exps/ab/{'c' * 38}/muddy-owl", commit], check=True)
    assert np.array_equal(read_scores("muddy-owl").members, read_scores("HEAD~1").members)


def test_several_members_put_the_spread_over_seeds_into_the_interval(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.csv", table(seed, members=3))
    assert main(["compare-models", "a.csv", "b.csv"]) == 0
    assert "seed" not in capsys.readouterr().out
    found = compare_scores(read_scores("a.csv"), read_scores("b.csv"))
    assert (found.members_a, found.members_b) == (3, 3)


def test_a_model_of_one_seed_is_named(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.csv", table(1, members=3))
    write(tmp_path / "b.csv", table(2))
    assert main(["compare-models", "a.csv", "b.csv"]) == 0
    assert "\none training seed of B" in capsys.readouterr().out


def test_the_same_command_prints_the_same(repository, capsys) -> None:
    outputs = []
    for seed in ("1", "1", "2"):
        assert main(["compare-models", "HEAD", "HEAD~1", "--seed", seed]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.iloc[:-7], "7 of 120 images are only in A, 0 of 113 only in B"),
        (lambda t: t.assign(id="x" + t["id"]), "120 of 120 images are only in A, 120 of 120 only in B"),
        (lambda t: t.assign(tier=["S", *t["tier"][1:]], tier_rank=[3, *t["tier_rank"][1:]]), "1 have another tier"),
        (lambda t: t.assign(tier_rank=3 - t["tier_rank"]), "the tiers are in another order"),
        (lambda t: t.assign(group="one"), "their groups differ"),
    ],
)
def test_another_test_split_is_refused_with_how_many_differ(tmp_path, change, says) -> None:
    paths = [write(tmp_path / "a.csv", table(1)), write(tmp_path / "b.csv", change(table(1)))]
    with pytest.raises(DataError, match="different test splits") as error:
        compare_scores(*(read_scores(str(path)) for path in paths))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere", "nowhere is not a file, a folder, or a Git revision"),
        ("empty", "empty holds neither metrics/scores.csv nor scores.csv"),
        ("before", "the revision before holds no metrics/scores.csv"),
        ("other.csv", "the scores of other.csv lack the columns id, group, tier, tier_rank, score"),
        ("holes.csv", "the scores of holes.csv are damaged"),
        ("text.csv", "the scores of text.csv are damaged"),
    ],
)
def test_what_is_no_result_is_one_line(repository, source, says, capsys) -> None:
    (repository / "empty").mkdir()
    Path("other.csv").write_text("a,b\n1,2\n")
    write(Path("holes.csv"), table(1).assign(score=np.nan))
    write(Path("text.csv"), table(1).assign(score="high"))
    tree = subprocess.run(["git", "mktree"], input="", capture_output=True, text=True, check=True).stdout.strip()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    made = subprocess.run([*git, "commit-tree", tree, "-m", "nothing"], capture_output=True, text=True, check=True)
    subprocess.run(["git", "branch", "before", made.stdout.strip()], check=True)
    assert main(["compare-models", source, "HEAD"]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("flag", "value"), [("--confidence", "95"), ("--n-bootstrap", "3")])
def test_an_option_out_of_range_is_one_line(repository, flag, value, capsys) -> None:
    assert main(["compare-models", "HEAD", "HEAD~1", flag, value]) == 1
    assert value in capsys.readouterr().err


def small_result(folder: Path, seed: int, *, noise: float) -> Path:
    """A project whose test split has 8 of 40 groups, and whose scores out of fold are those of all."""
    whole = table(seed, noise=noise)
    write(folder / "metrics/scores.csv", whole[whole["group"].isin(whole["group"].unique()[:8])])
    write(folder / "metrics/out_of_fold_scores.csv", whole.assign(fold=np.arange(N) % 40 % 4))
    return folder


def test_a_small_test_split_is_compared_out_of_fold(tmp_path, capsys) -> None:
    poor, good = small_result(tmp_path / "poor", 1, noise=6.0), small_result(tmp_path / "good", 2, noise=0.3)
    found = compare_scores(read_scores(str(good)), read_scores(str(poor)))
    assert (found.verdict, found.out_of_fold, found.n_images) == ("better", True, N)
    fold, scores = np.arange(N) % 40 % 4, table(2, noise=0.3)
    assert found.accuracy_a == pytest.approx(pairwise_accuracy(scores["score"], scores["tier_rank"], context=fold))
    assert main(["compare-models", str(good), str(poor)]) == 0
    printed = capsys.readouterr().out
    assert "out-of-fold pairwise accuracy" in printed
    assert "the test split is too small for a verdict" in printed


@pytest.mark.parametrize("damage", ["is missing", "has other folds"])
def test_without_scores_out_of_fold_that_fit_a_small_test_split_stays_undecided(tmp_path, damage) -> None:
    poor, good = small_result(tmp_path / "poor", 1, noise=6.0), small_result(tmp_path / "good", 2, noise=0.3)
    path = good / "metrics/out_of_fold_scores.csv"
    if damage == "is missing":
        path.unlink()
    else:
        write(path, pd.read_csv(path, dtype={"id": str, "group": str}).assign(fold=np.arange(N) % 2))
    found = compare_scores(read_scores(str(good)), read_scores(str(poor)))
    assert (found.verdict, found.out_of_fold) == ("undecided", False)


def test_a_revision_is_compared_out_of_fold_too(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    for seed, noise in ((1, 6.0), (2, 0.3)):
        small_result(tmp_path, seed, noise=noise)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", "a result"], check=True)
    found = compare_scores(read_scores("HEAD"), read_scores("HEAD~1"))
    assert (found.verdict, found.out_of_fold) == ("better", True)


def test_a_large_test_split_is_compared_on_itself(tmp_path) -> None:
    poor, good = small_result(tmp_path / "poor", 1, noise=6.0), small_result(tmp_path / "good", 2, noise=0.3)
    for folder, seed, noise in ((poor, 1, 6.0), (good, 2, 0.3)):
        write(folder / "metrics/scores.csv", table(seed, noise=noise))
    assert not compare_scores(read_scores(str(good)), read_scores(str(poor))).out_of_fold


def test_of_several_contexts_the_pairs_within_one_are_compared(tmp_path, capsys) -> None:
    context = [f"{k % 3:016x}" for k in range(N)]
    for name, seed, noise in (("poor", 1, 6.0), ("good", 2, 0.3)):
        write(tmp_path / name / "scores.csv", table(seed, noise=noise).assign(context=context))
    good, poor = (read_scores(str(tmp_path / name)) for name in ("good", "poor"))
    found, scores = compare_scores(good, poor), table(2, noise=0.3)
    assert (found.verdict, found.within_context) == ("better", True)
    assert found.accuracy_a == pytest.approx(pairwise_accuracy(scores["score"], scores["tier_rank"], context=context))
    assert main(["compare-models", str(tmp_path / "good"), str(tmp_path / "poor")]) == 0
    assert "pairwise accuracy within context" in capsys.readouterr().out


def test_where_the_contexts_are_others_all_pairs_are_compared(tmp_path) -> None:
    context = [f"{k % 3:016x}" for k in range(N)]
    write(tmp_path / "good/scores.csv", table(2, noise=0.3).assign(context=context))
    write(tmp_path / "poor/scores.csv", table(1, noise=6.0))
    good, poor = (read_scores(str(tmp_path / name)) for name in ("good", "poor"))
    assert not compare_scores(good, poor).within_context
