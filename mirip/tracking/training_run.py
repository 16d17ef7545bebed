"""The MLflow run of a training on its own, by `Trainer(TrainingConfig(...))` in Python."""

import sys

from mirip.errors import TrackingError
from mirip.models.trainer import TrainingConfig, TrainingResult
from mirip.params import TrainParams
from mirip.tracking.publishing import log_training_run


def track_training(config: TrainingConfig, result: TrainingResult) -> None:
    """Publish options, metrics and curves of a training; a server that is unavailable is a warning on stderr."""
    try:
        log_training_run(
            experiment=config.experiment,
            run_name=config.run_name,
            params={"train": config.model_dump(mode="json", include=set(TrainParams.model_fields))},
            metrics={
                "train.val_pairwise_accuracy": result.val_pairwise_accuracy,
                "train.best_epoch": result.best_epoch,
                "train.epochs": len(result.curves),
            },
            curves=result.curves,
            artifacts=[],
        )
    except TrackingError as error:
        print(f"warning: {error}; the training itself is complete", file=sys.stderr)
