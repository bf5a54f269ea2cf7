"""Training: from trajectories to adapters in a bundle."""

from dualtune_mlx.engine.stage import STAGES
from dualtune_mlx.training.config import ConfigFile, TrainConfig, merge_config
from dualtune_mlx.training.estimate import StageEstimate, estimate_training
from dualtune_mlx.training.group import Group
from dualtune_mlx.training.jobs import Job, all_jobs, needs_router
from dualtune_mlx.training.options import PRESETS, TrainOptions
from dualtune_mlx.training.run import Run, RunResult, RunSetup
from dualtune_mlx.training.session import SessionEvent, TrainingSession, train_all
from dualtune_mlx.training.trainer import Callback, Progress, Trainer, TrainResult, train

__all__ = [
    "PRESETS",
    "STAGES",
    "Callback",
    "ConfigFile",
    "Group",
    "Job",
    "Progress",
    "Run",
    "RunResult",
    "RunSetup",
    "SessionEvent",
    "StageEstimate",
    "TrainConfig",
    "TrainOptions",
    "TrainResult",
    "Trainer",
    "TrainingSession",
    "all_jobs",
    "estimate_training",
    "merge_config",
    "needs_router",
    "train",
    "train_all",
]
