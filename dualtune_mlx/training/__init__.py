"""Training: examples, batches, the masked loss, and the loop of one stage."""

from dualtune_mlx.training.options import TrainOptions
from dualtune_mlx.training.run import STAGES, train_stage
from dualtune_mlx.training.trainer import Progress, Trained, train

__all__ = ["STAGES", "Progress", "TrainOptions", "Trained", "train", "train_stage"]
