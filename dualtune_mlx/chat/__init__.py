"""Chat models: a local one, or one behind an OpenAI-compatible endpoint. What they are told is data."""

from dualtune_mlx.chat.endpoint import Endpoint, EndpointError
from dualtune_mlx.chat.local import LocalChat, encode_chat
from dualtune_mlx.chat.pieces import CHARACTERS_PER_TOKEN, ChatPiece, strip_thoughts

__all__ = [
    "CHARACTERS_PER_TOKEN",
    "ChatPiece",
    "Endpoint",
    "EndpointError",
    "LocalChat",
    "encode_chat",
    "strip_thoughts",
]
