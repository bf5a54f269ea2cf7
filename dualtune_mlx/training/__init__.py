"""Training: from trajectories to adapters in a bundle."""

from dualtune_mlx.engine.stage import STAGES
from dualtune_mlx.training.config import ConfigFile, TrainConfig, merge_config
from dualtune_mlx.training.estimate import StageEstimate
from dualtune_mlx.training.group import Group
from dualtune_mlx.training.jobs import Job, all_jobs, needs_router
from dualtune_mlx.training.options import PRESETS, TrainOptions
from dualtune_mlx.training.run import RunResult, RunSetup, TrainingRun
from dualtune_mlx.training.session import SessionEvent, TrainingSession, estimate_training, measure_paces, train_all
from dualtune_mlx.training.trainer import Callback, Progress, Trainer, TrainResult, train

__all__ = [
    "PRESETS",
    "STAGES",
    "Callback",
    "ConfigFile",
    "Group",
    "Job",
    "Progress",
    "RunResult",
    "RunSetup",
    "SessionEvent",
    "StageEstimate",
    "TrainConfig",
    "TrainOptions",
    "TrainResult",
    "Trainer",
    "TrainingRun",
    "TrainingSession",
    "all_jobs",
    "estimate_training",
    "measure_paces",
    "merge_config",
    "needs_router",
    "train",
    "train_all",
]
