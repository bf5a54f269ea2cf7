"""Slots for git: branches, commits, revisions, dates of the log."""

from __future__ import annotations

from dualtune_mlx.synthesis.values.paths import tracked
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.synthesis.values.slot import Slot


def _topic(sampler: Sampler) -> str:
    words = [sampler.word("verbs", "nouns", "tech", "adjectives") for _ in range(sampler.rng.choice((1, 2, 2, 3)))]
    if sampler.chance(0.12):
        words[-1] = sampler.invent()
    return sampler.rng.choice("---_").join(words)


def _branch(sampler: Sampler) -> str:
    prefix = sampler.rng.choice(
        ("feature", "feature", "fix", "bugfix", "hotfix", "chore", "docs", "experiment", "user")
    )
    return sampler.rng.choice(
        (
            f"{prefix}/{_topic(sampler)}",
            f"{prefix}/{_topic(sampler)}",
            f"{prefix}-{sampler.digits(2, 9999)}",
            f"{prefix}/{sampler.digits(2, 9999)}-{_topic(sampler)}",
            f"release/{sampler.digits(0, 12)}.{sampler.digits(0, 30)}",
            _topic(sampler),
            f"{sampler.word('first_names').lower()}/{_topic(sampler)}",
            f"{sampler.rng.choice(('PROJ', 'WEB', 'OPS', 'APP'))}-{sampler.digits(10, 9999)}-{_topic(sampler)}",
        )
    )


def branch(sampler: Sampler) -> Slot:
    """A branch with work in progress."""
    return Slot.verbatim(_branch(sampler))


def base(sampler: Sampler) -> Slot:
    """A branch to start from or to compare with, half of the time a main branch."""
    if sampler.chance(0.5):
        return Slot.verbatim(sampler.word("main_branches"))
    return Slot.verbatim(f"origin/{sampler.word('main_branches')}" if sampler.chance(0.2) else _branch(sampler))


def known_branch(sampler: Sampler) -> Slot:
    """A branch to switch to, sometimes a main branch."""
    return Slot.verbatim(sampler.word("main_branches") if sampler.chance(0.15) else _branch(sampler))


def _sha(sampler: Sampler) -> str:
    return "".join(sampler.rng.choices("0123456789abcdef", k=sampler.rng.choice((7, 7, 8, 9, 10))))


def _tag(sampler: Sampler) -> str:
    version = f"{sampler.digits(0, 9)}.{sampler.digits(0, 20)}.{sampler.digits(0, 20)}"
    return version if sampler.chance(0.15) else f"v{version}"


def sha(sampler: Sampler) -> Slot:
    """An abbreviated commit hash of 7 to 10 hex digits."""
    return Slot.verbatim(_sha(sampler))


def commit(sampler: Sampler) -> Slot:
    """A single commit: a hash, a tag, or a revision relative to HEAD."""
    head = sampler.rng.choice(("HEAD", f"HEAD~{sampler.digits(1, 15)}", f"HEAD~{sampler.digits(1, 15)}", "HEAD^"))
    return Slot.verbatim(sampler.rng.choice((_sha(sampler), _sha(sampler), _tag(sampler), head)))


def target(sampler: Sampler) -> Slot:
    """The target of a diff: a branch, a commit, sometimes a range."""
    if sampler.chance(0.12):
        return Slot.verbatim(f"{base(sampler).surface}..{_branch(sampler)}")
    return base(sampler) if sampler.chance(0.5) else commit(sampler)


def blob(sampler: Sampler) -> Slot:
    """A file at a revision in git's notation: ``main:src/app.py``."""
    head = f"HEAD~{sampler.digits(1, 9)}"
    revision = sampler.rng.choice((sampler.word("main_branches"), _sha(sampler), _tag(sampler), _branch(sampler), head))
    return Slot.verbatim(f"{revision}:{tracked(sampler).surface}")


def date(sampler: Sampler) -> Slot:
    """A point in time that git's log accepts: an ISO date, a date in words, or a relative one."""
    year, month, day = sampler.rng.randint(2019, 2027), sampler.rng.randint(1, 12), sampler.rng.randint(1, 28)
    iso = f"{year}-{month:02}-{day:02}"
    clock = f"T{sampler.rng.randint(0, 23):02}:{sampler.rng.randint(0, 59):02}:{sampler.rng.choice(('00', '30', '15'))}"
    ago = f"{sampler.rng.randint(2, 30)} {sampler.rng.choice(('days', 'weeks', 'months', 'hours'))} ago"
    return Slot.verbatim(
        sampler.rng.choice((iso, iso, iso + clock, f"{sampler.word('months')} {day} {year}", ago, ago, "yesterday"))
    )
