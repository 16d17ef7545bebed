"""The trainer: it learns, it stops, it resumes to the same bytes, it says no in words."""

import numpy as np
import pytest
import torch
from made_ranking_data import SMALL, made_data

from mirip.errors import CheckpointError, DataError
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.checkpoint import save_state
from mirip.models.ranking_data import RankingData
from mirip.models.trainer import Trainer, TrainingConfig
from mirip.params import TrainParams


def config(**changes) -> TrainingConfig:
    options = {"head": SMALL, "learning_rate": 0.01, "max_epochs": 12, "images_per_step": 64, "device": "cpu"}
    return TrainingConfig(tracking=False, **(options | changes))


def weights(model) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "changes", [{}, {"loss": "margin"}, {"loss": "squared"}, {"pair_balance": "balanced"}, {"pair_context": "same"}]
)
def test_it_learns_to_rank_unseen_images(changes) -> None:
    result = Trainer(config(**changes)).fit(made_data(300, 0), made_data(100, 1))
    assert result.val_pairwise_accuracy > 0.85


def test_the_epoch_is_chosen_by_the_pairs_that_training_uses() -> None:
    train, val = made_data(300, 0), made_data(100, 1)
    for pairs, context in (("same", val.context), ("any", None)):
        result = Trainer(config(pair_context=pairs)).fit(train, val)
        with torch.inference_mode():
            scores = result.model.score(torch.from_numpy(val.features.astype(np.float32))).numpy()
        assert result.val_pairwise_accuracy == pairwise_accuracy(scores, val.tier_rank, context=context)


def test_without_a_pair_within_a_context_nothing_chooses_the_epoch() -> None:
    val = made_data(100, 1)
    alone = RankingData(val.features, val.tier_rank, val.tier_rank)  # each tier is a context of its own
    with pytest.raises(DataError, match="the validation split holds no cross-tier pair within one context"):
        Trainer(config(pair_context="same")).fit(made_data(300, 0), alone)


def test_it_learns_from_batches_of_pairs() -> None:
    settings = TrainingConfig(head=SMALL, learning_rate=0.01, max_epochs=8, batch_size=32, device="cpu", tracking=False)
    assert settings.images_per_step is None
    assert Trainer(settings).fit(made_data(300, 0), made_data(100, 1)).val_pairwise_accuracy > 0.85


def test_the_model_is_that_of_its_best_epoch() -> None:
    result = Trainer(config()).fit(made_data(200, 0, 0.3), val := made_data(80, 1, 0.3))
    best = result.curves["val_pairwise_accuracy"].max()
    assert result.val_pairwise_accuracy == best
    assert result.curves.loc[result.best_epoch - 1, "val_pairwise_accuracy"] == best
    from mirip.metrics.pairwise import pairwise_accuracy

    with torch.inference_mode():
        scores = result.model.score(torch.from_numpy(val.features)).numpy()
    assert pairwise_accuracy(scores, val.tier_rank) == pytest.approx(best)


def test_it_stops_when_validation_no_longer_improves() -> None:
    result = Trainer(config(early_stopping_patience=2)).fit(made_data(100, 0, 0.0), made_data(60, 1, 0.0))
    assert len(result.curves) == min(result.best_epoch + 2, 12)


@pytest.mark.parametrize("images_per_step", [64, None])
def test_same_seed_same_bytes_other_seed_other_bytes(images_per_step) -> None:
    train, val = made_data(120, 0), made_data(60, 1)
    first, second, other = (
        weights(
            Trainer(config(seed=seed).model_copy(update={"images_per_step": images_per_step, "max_epochs": 3}))
            .fit(train, val)
            .model
        )
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    Trainer(config()).fit_epochs(made_data(60, 0), 1)
    assert torch.rand(1) == expected


@pytest.mark.slow
def test_a_resumed_training_ends_in_the_same_bytes(tmp_path) -> None:
    train, val = made_data(150, 0, 0.3), made_data(60, 1, 0.3)
    settings = config(save_every_n_epochs=2, early_stopping_patience=12)
    through = Trainer(settings, checkpoint_dir=tmp_path).fit(train, val)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"epoch_{n:04d}.pt" for n in range(2, 13, 2)]
    resumed = Trainer(settings).fit(train, val, resume_from=tmp_path / "epoch_0004.pt")
    assert weights(resumed.model) == weights(through.model)
    assert resumed.curves.equals(through.curves)
    assert resumed.best_epoch == through.best_epoch


def test_resuming_another_training_is_refused_naming_the_option(tmp_path) -> None:
    train, val = made_data(100, 0), made_data(60, 1)
    Trainer(config(save_every_n_epochs=2), checkpoint_dir=tmp_path).fit(train, val)
    with pytest.raises(CheckpointError, match=r"other options \(dropout\)"):
        Trainer(config(save_every_n_epochs=2, dropout=0.5)).fit(train, val, resume_from=tmp_path / "epoch_0002.pt")
    upside_down = RankingData(train.features, 3 - train.tier_rank, train.context)
    for others in ((upside_down, val), (train, made_data(60, 9))):
        with pytest.raises(CheckpointError, match="other images, features or tiers"):
            Trainer(config(save_every_n_epochs=2)).fit(*others, resume_from=tmp_path / "epoch_0002.pt")
    save_state(tmp_path / "epoch_0099.pt", {"config": {}})
    with pytest.raises(CheckpointError, match="no checkpoint of a training"):
        Trainer(config()).fit(train, val, resume_from=tmp_path / "epoch_0099.pt")


def test_a_training_can_be_prolonged(tmp_path) -> None:
    train, val = made_data(150, 0, 0.3), made_data(60, 1, 0.3)
    short = config(save_every_n_epochs=2, early_stopping_patience=20).model_copy(update={"max_epochs": 4})
    long = short.model_copy(update={"max_epochs": 8})
    Trainer(short, checkpoint_dir=tmp_path).fit(train, val)
    prolonged = Trainer(long).fit(train, val, resume_from=tmp_path / "epoch_0004.pt")
    assert weights(prolonged.model) == weights(Trainer(long).fit(train, val).model)


def test_only_the_latest_checkpoint_is_kept_where_the_others_are_not_wanted(tmp_path) -> None:
    trainer = Trainer(config(save_every_n_epochs=2), checkpoint_dir=tmp_path, keep_checkpoints=False)
    trainer.fit(made_data(100, 0), made_data(60, 1))
    assert len(list(tmp_path.iterdir())) == 1


def test_one_tier_alone_is_an_error_on_either_side() -> None:
    good = made_data(60, 0)
    one_tier = RankingData(good.features, np.zeros_like(good.tier_rank), good.context)
    with pytest.raises(DataError, match="validation split holds no cross-tier pair"):
        Trainer(config()).fit(good, one_tier)
    with pytest.raises(DataError, match="training split holds no cross-tier pair"):
        Trainer(config()).fit(one_tier, good)


def test_defaults_are_those_of_the_requirements() -> None:
    expected = {
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "batch_size": 32,
        "max_epochs": 100,
        "gradient_clip_norm": 1.0,
        "early_stopping_patience": 10,
        "scheduler_t_max": 100,
        "scheduler_eta_min": 1e-6,
        "save_every_n_epochs": 5,
        "seed": 42,
    }
    defaults = TrainingConfig().model_dump()
    assert {name: defaults[name] for name in expected} == expected


def test_a_training_that_runs_away_is_an_error_that_says_what_to_do() -> None:
    wild = config().model_copy(update={"learning_rate": 1e30})
    with pytest.raises(DataError, match=r"diverged in epoch \d+ \(train\.learning_rate is 1e\+30\): lower"):
        Trainer(wild).fit(made_data(200, 0), made_data(60, 1))


def test_a_config_alone_keeps_checkpoints_and_has_the_training_tracked(tmp_path) -> None:
    tracked = []
    settings = config(max_epochs=4, save_every_n_epochs=2, checkpoint_dir=tmp_path).model_copy(
        update={"tracking": True}
    )
    trainer = Trainer(settings, tracker=lambda options, result: tracked.append((options, result)))
    result = trainer.fit(made_data(200, 0), made_data(60, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_0002.pt", "epoch_0004.pt"]
    assert tracked[0][0] is settings
    assert tracked[0][1] is result


def test_options_of_the_pipeline_are_not_tracked_by_the_trainer() -> None:
    plain = TrainParams.model_validate(config(max_epochs=2).model_dump(include=set(TrainParams.model_fields)))
    tracked = []
    Trainer(plain, tracker=lambda *training: tracked.append(training)).fit(made_data(200, 0), made_data(60, 1))
    assert tracked == []
