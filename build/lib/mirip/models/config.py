"""All options of a training job that stands on its own."""

from mirip.params import TrainParams


class TrainingConfig(TrainParams):
    """Options of training (those of the section `train`) and of tracking.

    Frozen; an unknown or invalid option raises pydantic.ValidationError. With `images_per_step` None, a step
    takes `batch_size` cross-tier pairs; with a number, that many distinct images and all their pairs.
    """

    tracking: bool = True
    experiment: str = "mirip"
    run_name: str | None = None
