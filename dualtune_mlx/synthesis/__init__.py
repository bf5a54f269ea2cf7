"""Training data from tools: values, requests in many wordings, and chains of calls."""

from dualtune_mlx.synthesis.chains import generate_chains
from dualtune_mlx.synthesis.requests import generate_requests

__all__ = ["generate_chains", "generate_requests"]
