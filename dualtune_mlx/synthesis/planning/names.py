"""Names that a user says: of people, files, places, tables, services, and their identifiers and codes."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Sequence

from dualtune_mlx.synthesis.conversions.tables import TABLES
from dualtune_mlx.synthesis.values import clock, paths, revisions, tables
from dualtune_mlx.synthesis.values.sampling import Sampler

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FONTS = ("Arial", "Calibri", "Helvetica", "Times New Roman", "Georgia", "Verdana", "Courier New", "Inter", "Garamond")
TICKERS = ("AAPL", "MSFT", "TSLA", "NVDA", "AMZN", "SAP", "BTCUSDT", "ETHUSDT", "BTC", "ETH", "GOOG", "BMW", "IBM")
ENDINGS = ("com", "org", "net", "io", "dev", "de", "fr", "co.uk", "example.com")
EMOJI = ("🎉", "👍", "🚀", "✅", "🔥", "📌", "thumbsup", "rocket", "eyes", "tada")


def person(sampler: Sampler) -> str:
    """A person's name, mostly the first and the last."""
    first, last = sampler.word("first_names"), sampler.word("last_names")
    return sampler.rng.choice((f"{first} {last}", f"{first} {last}", first, f"{first} {sampler.invent().capitalize()}"))


def handle(sampler: Sampler) -> str:
    """A user's or an organisation's name on a service."""
    first, last = sampler.word("first_names").lower(), sampler.word("last_names").lower()
    made = f"{sampler.word('adjectives', 'tech')}-{sampler.word('nouns')}"
    return sampler.rng.choice(
        (f"{first}.{last}", first + last[0], made, sampler.invent(), f"{first}{sampler.digits(1, 99)}")
    )


def email(sampler: Sampler) -> str:
    """An address of a person or of a team."""
    first, last = sampler.word("first_names").lower(), sampler.word("last_names").lower()
    name = sampler.rng.choice((f"{first}.{last}", first, f"{first[0]}{last}", sampler.word("nouns")))
    plain = name.encode("ascii", "ignore").decode() or "office"
    return f"{plain}@{host(sampler)}"


def host(sampler: Sampler) -> str:
    """A domain."""
    name = sampler.invent() if sampler.chance(0.3) else sampler.word("nouns", "tech")
    part = f"{sampler.word('tech')}." if sampler.chance(0.2) else ""
    name += f"-{sampler.word('nouns')}" if sampler.chance(0.3) else ""
    return f"{part}{name}.{sampler.rng.choice(ENDINGS)}"


def url(sampler: Sampler) -> str:
    """An address of a page."""
    rest = "/".join(sampler.word("nouns", "tech") for _ in range(sampler.rng.choice((0, 1, 1, 2))))
    query = f"?id={sampler.digits(1, 999)}" if sampler.chance(0.1) else ""
    return f"https://{host(sampler)}{'/' if rest else ''}{rest}{query}"


def slug(sampler: Sampler) -> str:
    """A name of one to three words, joined as in programs."""
    count = sampler.rng.choice((1, 2, 2, 3))
    parts = [
        sampler.invent() if sampler.chance(0.08) else sampler.word("nouns", "tech", "adjectives") for _ in range(count)
    ]
    if sampler.chance(0.25):
        parts.append(sampler.rng.choice(("prod", "dev", "eu", "v2", "01", "7", "test", "2025")))
    return sampler.rng.choice("---_").join(parts)


def name(sampler: Sampler) -> str:
    """A name that someone has given to something."""
    kinds = ("project_name", "event_name", "company_name", "place_name", "name")
    text = slug(sampler) if sampler.chance(0.35) else sampler.phrase(sampler.rng.choice(kinds))
    return text if sampler.chance(0.5) else text.title() if sampler.chance(0.5) else text.capitalize()


def company(sampler: Sampler) -> str:
    """A company or a team."""
    return sampler.phrase("company_name")


def identifier(sampler: Sampler) -> str:
    """An identifier: a number, a short code, hexadecimal digits."""
    letters = LETTERS + LETTERS.lower() + "0123456789"
    code = "".join(sampler.rng.choices(letters, k=sampler.rng.randint(6, 12)))
    prefixed = f"{sampler.rng.choice(('usr', 'prj', 'tsk', 'doc', 'ord', 'inv'))}_{code[:8].lower()}"
    return sampler.rng.choice(
        (sampler.digits(10, 99999), sampler.digits(1, 999), code, code, prefixed, _hex(sampler, 8))
    )


def uid(sampler: Sampler) -> str:
    """An identifier that somebody has named, or one of letters and digits."""
    return slug(sampler) if sampler.chance(0.4) else opaque(sampler)[: sampler.rng.choice((8, 9, 10, 12))]


def _hex(sampler: Sampler, size: int) -> str:
    return "".join(sampler.rng.choices("0123456789abcdef", k=size))


def opaque(sampler: Sampler) -> str:
    """A mark that a server has given out."""
    return "".join(sampler.rng.choices(LETTERS + LETTERS.lower() + "0123456789", k=sampler.rng.randint(12, 20)))


def uuid(sampler: Sampler) -> str:
    """A UUID."""
    return str(uuids.UUID(int=sampler.rng.getrandbits(128), version=4))


def secret(sampler: Sampler) -> str:
    """A password that is nobody's."""
    return f"{sampler.invent().capitalize()}{sampler.digits(10, 99)}{sampler.rng.choice('!#$%&')}{sampler.invent()}"


def issue_key(sampler: Sampler) -> str:
    """The key of an issue: ``OPS-214``."""
    return f"{project_key(sampler)}-{sampler.digits(1, 999)}"


def project_key(sampler: Sampler) -> str:
    """The key of a project."""
    return "".join(sampler.rng.choices(LETTERS, k=sampler.rng.randint(2, 4)))


def cell(sampler: Sampler) -> str:
    """A cell of a spreadsheet."""
    return f"{sampler.rng.choice(LETTERS[:14])}{sampler.rng.randint(1, 60)}"


def cell_range(sampler: Sampler) -> str:
    """A range of cells."""
    first, last = sorted(sampler.rng.sample(LETTERS[:14], 2))
    start = sampler.rng.randint(1, 12)
    return f"{first}{start}:{last}{start + sampler.rng.randint(1, 40)}"


def sheet(sampler: Sampler) -> str:
    """A sheet of a workbook."""
    month = sampler.rng.choice(("January", "Q1", "Q3 2025", "Sheet1", "Sheet2", "2026"))
    return month if sampler.chance(0.25) else sampler.word("nouns", "tables").capitalize()


def colour(sampler: Sampler) -> str:
    """A colour in hexadecimal digits: one that has a name, or any."""
    return f"#{sampler.rng.choice([*TABLES['colours']]) if sampler.chance(0.6) else _hex(sampler, 6).upper()}"


def channel(sampler: Sampler) -> str:
    """A channel of a chat."""
    return ("#" if sampler.chance(0.4) else "") + slug(sampler)


def place(sampler: Sampler) -> str:
    """A place: a town, or an address in it."""
    street = f"{sampler.word('nouns').capitalize()} {sampler.rng.choice(('Street', 'Road', 'Square'))}"
    address = f"{sampler.digits(1, 99)} {street}"
    return sampler.rng.choice((town(sampler), f"{address}, {town(sampler)}", sampler.phrase("place_name").title()))


def venue(sampler: Sampler) -> str:
    """A restaurant, a hotel, a station: a name, perhaps with its sort."""
    name = sampler.invent().capitalize() if sampler.chance(0.3) else sampler.word("nouns", "last_names").capitalize()
    return sampler.rng.choice(
        (name, f"The {name}", f"{name} {sampler.word('nouns').capitalize()}", f"{name} {town(sampler)}")
    )


def container_image(sampler: Sampler) -> str:
    """An image of a container with its tag."""
    return f"{slug(sampler)}:{sampler.rng.choice(('latest', version(sampler)))}"


def town(sampler: Sampler) -> str:
    """A town."""
    return sampler.rng.choice([*clock.CITIES]) if sampler.chance(0.4) else sampler.word("towns").replace("_", " ")


def timezone(sampler: Sampler) -> str:
    """An IANA time zone."""
    return sampler.rng.choice(clock.ZONES)


def phone(sampler: Sampler) -> str:
    """A telephone number."""
    return f"+{sampler.digits(1, 99)}{sampler.digits(100000000, 999999999)}"


def address_ip(sampler: Sampler) -> str:
    """An IPv4 address."""
    return ".".join(sampler.digits(1, 254) for _ in range(4))


def version(sampler: Sampler) -> str:
    """A version: ``v2.4.1``."""
    numbers = ".".join(sampler.digits(0, 20) for _ in range(sampler.rng.choice((2, 3))))
    return ("v" if sampler.chance(0.4) else "") + numbers


def file(sampler: Sampler, extensions: Sequence[str] = ()) -> str:
    """The path of a file, with one of the endings where there are some."""
    path = str(paths.file(sampler).value)
    return f"{path.rpartition('.')[0]}.{sampler.rng.choice(extensions)}" if extensions and "." in path else path


def table(sampler: Sampler) -> str:
    """A table of a database."""
    return str(tables.table(sampler).value)


def column(sampler: Sampler) -> str:
    """A column of a table, or a field of a record."""
    return str(tables.column(sampler).value)


def metric(sampler: Sampler) -> str:
    """The name of a metric."""
    return (
        f"{sampler.word('tech')}_{sampler.word('nouns')}_{sampler.rng.choice(('total', 'seconds', 'bytes', 'count'))}"
    )


def branch(sampler: Sampler) -> str:
    """A branch of a repository."""
    return str(revisions.branch(sampler).value)


def sha(sampler: Sampler) -> str:
    """The digest of a commit."""
    return str(revisions.sha(sampler).value)


def code_of(table_name: str, sampler: Sampler) -> str:
    """A code of a language, a country or a currency."""
    return str(sampler.rng.choice([*TABLES[table_name]]))
