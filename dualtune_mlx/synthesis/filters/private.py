"""The filter of what is nobody else's business: secrets, and folders that name their user."""

from __future__ import annotations

from dualtune_mlx.data.secrets import find_home_paths, find_secrets
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools.leaves import iter_leaves


def explain_private(request: WordedRequest, *_: object) -> str:
    """What private thing the request or its calls hold."""
    values = (str(leaf) for call in request.calls for leaf in iter_leaves(call.arguments))
    text = "\n".join([request.text, *values])
    kinds = (secret.kind for secret in find_secrets(text))  # a secret itself is never repeated
    return next(kinds, "") or next(find_home_paths(text), "")
