"""The filter of languages: a teacher that was asked for German may have written English."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from dualtune_mlx.errors import UsageError
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

ENGLISH = "English"
LANGUAGES = {
    "Arabic": "ar",
    "Bulgarian": "bg",
    "Catalan": "ca",
    "Chinese": "zh",
    "Croatian": "hr",
    "Czech": "cs",
    "Danish": "da",
    "Dutch": "nl",
    ENGLISH: "en",
    "Finnish": "fi",
    "French": "fr",
    "German": "de",
    "Greek": "el",
    "Hebrew": "he",
    "Hindi": "hi",
    "Hungarian": "hu",
    "Indonesian": "id",
    "Italian": "it",
    "Japanese": "ja",
    "Korean": "ko",
    "Norwegian": "no",
    "Persian": "fa",
    "Polish": "pl",
    "Portuguese": "pt",
    "Romanian": "ro",
    "Russian": "ru",
    "Serbian": "sr",
    "Slovak": "sk",
    "Spanish": "es",
    "Swedish": "sv",
    "Thai": "th",
    "Turkish": "tr",
    "Ukrainian": "uk",
    "Vietnamese": "vi",
}
"""The languages that requests can be in, with their codes."""
CERTAIN = 15.0
"""How much more likely (the logarithm) another language must be: a few words and names look like any language."""


def explain_language(request: WordedRequest, _: Sequence[Tool], language: str) -> str:
    """Why a teacher's request is not in a language of the table; "" where it is, or where that cannot be told.

    Raises:
        UsageError: when the package py3langid is not installed.
    """
    if request.source != "teacher":
        return ""
    text = request.text
    for call in request.calls:
        for value in sorted((value for value in call.arguments.values() if isinstance(value, str)), key=len)[::-1]:
            text = text.replace(value, " ") if value else text
    ranked = load_identifier().rank(text)
    (code, best), wanted = ranked[0], dict(ranked)[LANGUAGES[language]]
    return f"not in {language} ({code})" if best - wanted > CERTAIN else ""


@cache
def load_identifier() -> LanguageIdentifier:
    """What tells languages apart. It takes a second to load, and is kept.

    Raises:
        UsageError: when the package py3langid is not installed.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise UsageError(
            "languages cannot be told apart without the package py3langid", fix="pip install 'dualtune-mlx[synth]'"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE)
