"""Training: examples, batches, the masked loss, the loop of one stage, and its files."""

from dualtune_mlx.training.examples import STAGES
from dualtune_mlx.training.group import Group
from dualtune_mlx.training.jobs import all_jobs, needs_router
from dualtune_mlx.training.options import PRESETS, TrainOptions
from dualtune_mlx.training.run import Finished, Job, Run
from dualtune_mlx.training.trainer import Callback, Progress, Trained, Trainer, train

__all__ = [
    "PRESETS",
    "STAGES",
    "Callback",
    "Finished",
    "Group",
    "Job",
    "Progress",
    "Run",
    "TrainOptions",
    "Trained",
    "Trainer",
    "all_jobs",
    "needs_router",
    "train",
]
