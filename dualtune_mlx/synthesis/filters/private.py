"""The filter of what is nobody else's business: secrets, and folders that name their user."""

from __future__ import annotations

import json

from dualtune_mlx.data.secrets import find_home_paths, find_secrets
from dualtune_mlx.synthesis.worded_requests import WordedRequest


def explain_private(request: WordedRequest, *_: object) -> str:
    """What private thing the request or its calls hold."""
    values = (value for call in request.calls for value in _texts(dict(call.arguments)))
    text = "\n".join([request.text, *values])
    kinds = (secret.kind for secret in find_secrets(text))  # a secret itself is never repeated
    return next(kinds, "") or next(find_home_paths(text), "")


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else [json.dumps(value)]
