"""Slots for git: branches, commits, revisions, dates of the log."""

from __future__ import annotations

from dualtune_mlx.synthesis.values.paths import tracked
from dualtune_mlx.synthesis.values.sampling import Draw, Slot, copied


def _topic(draw: Draw) -> str:
    words = [draw.word("verbs", "nouns", "tech", "adjectives") for _ in range(draw.rng.choice((1, 2, 2, 3)))]
    if draw.chance(0.12):
        words[-1] = draw.invented()
    return draw.rng.choice("---_").join(words)


def _branch(draw: Draw) -> str:
    prefix = draw.rng.choice(("feature", "feature", "fix", "bugfix", "hotfix", "chore", "docs", "experiment", "user"))
    return draw.rng.choice(
        (
            f"{prefix}/{_topic(draw)}",
            f"{prefix}/{_topic(draw)}",
            f"{prefix}-{draw.digits(2, 9999)}",
            f"{prefix}/{draw.digits(2, 9999)}-{_topic(draw)}",
            f"release/{draw.digits(0, 12)}.{draw.digits(0, 30)}",
            _topic(draw),
            f"{draw.word('first_names').lower()}/{_topic(draw)}",
            f"{draw.rng.choice(('PROJ', 'WEB', 'OPS', 'APP'))}-{draw.digits(10, 9999)}-{_topic(draw)}",
        )
    )


def branch(draw: Draw) -> Slot:
    """A branch that someone works on."""
    return copied(_branch(draw))


def base(draw: Draw) -> Slot:
    """A branch to start from or to compare with: often a main line."""
    if draw.chance(0.5):
        return copied(draw.word("main_branches"))
    return copied(f"origin/{draw.word('main_branches')}" if draw.chance(0.2) else _branch(draw))


def known_branch(draw: Draw) -> Slot:
    """A branch to switch to: any, now and then a main line."""
    return copied(draw.word("main_branches") if draw.chance(0.15) else _branch(draw))


def _sha(draw: Draw) -> str:
    return "".join(draw.rng.choices("0123456789abcdef", k=draw.rng.choice((7, 7, 8, 9, 10))))


def _tag(draw: Draw) -> str:
    version = f"{draw.digits(0, 9)}.{draw.digits(0, 20)}.{draw.digits(0, 20)}"
    return version if draw.chance(0.15) else f"v{version}"


def sha(draw: Draw) -> Slot:
    """An abbreviated commit hash of 7 to 10 hex digits."""
    return copied(_sha(draw))


def commit(draw: Draw) -> Slot:
    """A single commit: a hash, a tag, or one counted from HEAD."""
    head = draw.rng.choice(("HEAD", f"HEAD~{draw.digits(1, 15)}", f"HEAD~{draw.digits(1, 15)}", "HEAD^"))
    return copied(draw.rng.choice((_sha(draw), _sha(draw), _tag(draw), head)))


def target(draw: Draw) -> Slot:
    """What a diff is taken against: a branch, a commit, now and then a range."""
    if draw.chance(0.12):
        return copied(f"{base(draw).surface}..{_branch(draw)}")
    return base(draw) if draw.chance(0.5) else commit(draw)


def blob(draw: Draw) -> Slot:
    """A file at a revision, written the way git does: ``main:src/app.py``."""
    head = f"HEAD~{draw.digits(1, 9)}"
    revision = draw.rng.choice((draw.word("main_branches"), _sha(draw), _tag(draw), _branch(draw), head))
    return copied(f"{revision}:{tracked(draw).surface}")


def date(draw: Draw) -> Slot:
    """A point in time as git's log takes it: ISO, absolute or relative."""
    year, month, day = draw.rng.randint(2019, 2027), draw.rng.randint(1, 12), draw.rng.randint(1, 28)
    iso = f"{year}-{month:02}-{day:02}"
    clock = f"T{draw.rng.randint(0, 23):02}:{draw.rng.randint(0, 59):02}:{draw.rng.choice(('00', '30', '15'))}"
    ago = f"{draw.rng.randint(2, 30)} {draw.rng.choice(('days', 'weeks', 'months', 'hours'))} ago"
    return copied(
        draw.rng.choice((iso, iso, iso + clock, f"{draw.word('months')} {day} {year}", ago, ago, "yesterday"))
    )
