"""What can be asked of a run that makes requests."""

from __future__ import annotations

from dataclasses import dataclass, field

from dualtune_mlx.errors import UsageError
from dualtune_mlx.synthesis.filters.language import ENGLISH, LANGUAGES
from dualtune_mlx.synthesis.teacher.wording import STYLES


@dataclass(frozen=True)
class SynthesisOptions:
    """What can be asked of a run that makes requests.

    Raises:
        UsageError: when a style or a language is unknown, or a number makes no sense.
    """

    requests: int = field(default=1000, metadata={"help": "Requests there are to be."})
    teacher_share: float = field(
        default=1.0, metadata={"help": "Share of the requests that the teacher words; the generator words the others."}
    )
    several: float = field(default=0.08, metadata={"help": "Share of the teacher's requests for two or three calls."})
    unserved: float = field(default=0.135, metadata={"help": "Share of the teacher's requests that no tool serves."})
    styles: tuple[str, ...] = field(default=tuple(STYLES), metadata={"help": "Style of the requests; may be repeated."})
    language: str = field(
        default=ENGLISH, metadata={"help": "Language of the requests; another than English needs a teacher."}
    )
    seed: int = field(default=0, metadata={"help": "The same seed plans the same calls."})

    def __post_init__(self) -> None:
        unknown = [style for style in self.styles if style not in STYLES]
        if unknown or not self.styles:
            raise UsageError("there is no such style", got=", ".join(unknown) or "none", expected=", ".join(STYLES))
        if self.language not in LANGUAGES:
            raise UsageError("the language is not known", got=self.language, expected=", ".join(LANGUAGES))
        shares = (self.teacher_share, self.several, self.unserved)
        if self.requests < 1 or not all(0 <= share <= 1 for share in shares) or self.several + self.unserved > 1:
            got = f"{self.requests} requests, shares {', '.join(map(str, shares))}"
            raise UsageError("the numbers of requests make no sense", got=got, expected="at least 1, and shares to 1")
