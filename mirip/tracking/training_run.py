"""The MLflow run of a training on its own, by `Trainer(TrainingConfig(...))` in Python."""

import sys

from mirip.errors import TrackingError
from mirip.models.trainer import TrainingConfig, TrainingResult
from mirip.params import TrainParams
from mirip.tracking.publishing import publish
from mirip.tracking.result import RunRecord, provenance_tags, result_key


def track_training(config: TrainingConfig, result: TrainingResult) -> None:
    """Publish options, metrics and curves of a training; a server that is unavailable is a warning on stderr.

    The same options and curves are the same run.
    """
    params = {"train": config.model_dump(mode="json", include=set(TrainParams.model_fields))}
    key = result_key(params, {"curves": result.curves.to_csv(index=False)})
    record = RunRecord(
        experiment=config.experiment,
        run_name=config.run_name or f"train {key[:7]}",
        params=params,
        metrics={
            "train.val_pairwise_accuracy": result.val_pairwise_accuracy,
            "train.best_epoch": result.best_epoch,
            "train.epochs": len(result.curves),
        },
        curves=result.curves,
        artifacts=[],
        tags=provenance_tags(),
        key=key,
        rename=config.run_name is not None,
    )
    try:
        publish(record)
    except TrackingError as error:
        print(f"warning: {error}; the training itself is complete", file=sys.stderr)
