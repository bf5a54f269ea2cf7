"""Texts that a user says whole: sentences, searches, titles, statements, expressions, code."""

from __future__ import annotations

from dualtune_mlx.synthesis.values import tables
from dualtune_mlx.synthesis.values.sampling import Sampler

FOREIGN = (
    "Besprechung am Dienstag", "réunion de service", "informe de ventas", "relatório mensal", "faktura från mars",
    "会議の議事録", "отчёт за март", "τιμολόγιο", "تقرير المبيعات", "회의 안건", "Überblick für Jörg", "naïve Bayes",
    "przegląd budżetu", "São João", "smørrebrød til frokost", "Žižkov office",
)  # fmt: skip
"""Words in other languages and alphabets, which a model copies like any others."""
_PLACES = ("near", "in", "around", "for", "with", "without", "about", "vs", "and", "from")


def words(sampler: Sampler, low: int, high: int) -> str:
    """Some words that have nothing to do with each other, so that they must be read."""
    before = [sampler.word("adjectives", "nouns", "tech", "nouns") for _ in range(sampler.rng.randint(low, high) - 1)]
    last = sampler.invent() if sampler.chance(0.08) else sampler.word("nouns", "tech", "nouns")
    return " ".join((*before, last))


def sentence(sampler: Sampler) -> str:
    """A short text: mostly a sentence, now and then two, a few words, or another language."""
    draw = sampler.rng.random()
    if draw < 0.05:
        return sampler.rng.choice(FOREIGN)
    if draw < 0.3:
        return title(sampler)
    if draw < 0.36:
        return f"{sampler.phrase('sentence')} {sampler.phrase('sentence')}"
    if draw < 0.42:
        return f"{sampler.phrase('remark')}"
    if draw < 0.46:
        return f'{sampler.word("first_names")} said "{words(sampler, 1, 3)}"'
    return sampler.phrase("sentence")


def question(sampler: Sampler) -> str:
    """A question."""
    subject = f"the {words(sampler, 1, 2)}"
    return sampler.rng.choice(
        (
            f"What is {subject}?",
            f"How do you like {subject}?",
            f"Which {sampler.word('nouns')} suits you best?",
            f"Why does {subject} {sampler.word('verbs')}?",
            f"Who needs {subject}?",
        )
    )


def title(sampler: Sampler) -> str:
    """A title of one to five words, in one of the ways in which people capitalise."""
    draw = sampler.rng.random()
    if draw < 0.05:
        return sampler.rng.choice(FOREIGN)
    if draw < 0.15:
        return f"{sampler.rng.choice(('Q1', 'Q2', 'Q3', 'Q4', 'Week 12', 'v2', '2025', '2026'))} {words(sampler, 1, 2)}"
    if draw < 0.25:
        return f"{sampler.word('verbs').capitalize()} the {words(sampler, 1, 2)}"
    if draw < 0.32:
        return f"{sampler.word('first_names')}'s {words(sampler, 1, 2)}"
    if draw < 0.4:
        return sampler.phrase("topic")
    text = words(sampler, 1, 4)
    return sampler.rng.choice((text, text.capitalize(), text.title(), text.title()))


def search(sampler: Sampler) -> str:
    """What is typed into a search box."""
    draw = sampler.rng.random()
    if draw < 0.06:
        return sampler.rng.choice(FOREIGN)
    if draw < 0.3:
        return f"{words(sampler, 1, 2)} {sampler.rng.choice(_PLACES)} {sampler.word('towns', 'nouns', 'languages')}"
    if draw < 0.4:
        return f"{words(sampler, 1, 2)} {sampler.rng.randint(2015, 2027)}"
    if draw < 0.5:
        return f"how to {sampler.word('verbs')} {sampler.word('nouns', 'tech')}"
    return words(sampler, 1, 4)


def label(sampler: Sampler) -> str:
    """A label of a word or two."""
    if sampler.chance(0.15):
        return f"{sampler.word('adjectives')}-{sampler.word('nouns', 'tech')}"
    word = sampler.invent() if sampler.chance(0.1) else sampler.word("adjectives", "nouns", "tech", "states")
    return sampler.rng.choice((word, word, word, word.capitalize(), word.upper()))


def sql(sampler: Sampler) -> str:
    """A statement in SQL, mostly one that reads."""
    statement = tables.select_sql if sampler.chance(0.8) else tables.write_sql
    return str(statement(sampler).value)


def formula(sampler: Sampler) -> str:
    """A formula of a spreadsheet."""
    column, last = sampler.rng.choice("ABCDEFGH"), sampler.rng.randint(3, 90)
    name = sampler.rng.choice(("SUM", "AVERAGE", "MAX", "MIN", "COUNT"))
    simple = f"={column}{last}*{sampler.rng.choice(('1.19', '2', '0.5', 'C1'))}"
    return sampler.rng.choice((f"={name}({column}2:{column}{last})", f"={name}({column}1:{column}{last})", simple))


def math(sampler: Sampler) -> str:
    """Something to calculate."""
    first, second, third = (sampler.digits(2, 999) for _ in range(3))
    sign, other = sampler.rng.choice("+-*/"), sampler.rng.choice("+-*/")
    return sampler.rng.choice(
        (
            f"{first} {sign} {second}",
            f"{first}{sign}{second}",
            f"({first} {sign} {second}) {other} {third}",
            f"{first} {sign} {second} {other} {third}",
            f"sqrt({first})",
            f"{sampler.digits(2, 20)}^{sampler.digits(2, 6)}",
        )
    )


def condition(sampler: Sampler) -> str:
    """A condition on the rows of a table."""
    column, value = sampler.word("columns", "numeric_columns"), sampler.digits(1, 999)
    return sampler.rng.choice(
        (f"{column} > {value}", f"{column} = '{sampler.word('nouns', 'states')}'", f"{column} < {value}")
    )


def promql(sampler: Sampler) -> str:
    """An expression over metrics."""
    name, job = f"{sampler.word('tech')}_{sampler.word('nouns')}_total", sampler.word("tech")
    return sampler.rng.choice((f"rate({name}[5m])", f'sum(rate({name}{{job="{job}"}}[1m]))', f"avg({name})", "up"))


def traceql(sampler: Sampler) -> str:
    """A query for traces."""
    service = f'resource.service.name = "{sampler.word("tech", "nouns")}"'
    return sampler.rng.choice((f"{{ {service} }}", f"{{ duration > {sampler.digits(1, 9)}s }}", "{ status = error }"))


def logql(sampler: Sampler) -> str:
    """A selector of log streams."""
    stream = f'{{{sampler.rng.choice(("app", "job", "namespace"))}="{sampler.word("tech", "nouns")}"}}'
    return sampler.rng.choice((stream, f'{stream} |= "{sampler.word("nouns", "states")}"'))


def regex(sampler: Sampler) -> str:
    """A regular expression."""
    word = sampler.word("nouns", "tech")
    return sampler.rng.choice(
        (f"{word}.*", f"^{word}", f"{word}-[0-9]+", rf"\b{word}\b", f"({word}|{sampler.word('nouns')})")
    )


def json_path(sampler: Sampler) -> str:
    """A path into a JSON document."""
    first, last = sampler.word("nouns", "tech"), sampler.word("nouns")
    return sampler.rng.choice((f"$.{first}.{last}", f"$.{first}[*].{last}", f"$.{first}[0]", f".{first}.{last}"))


def script(sampler: Sampler) -> str:
    """A line of code."""
    return sampler.phrase("code")


def javascript(sampler: Sampler) -> str:
    """A function that runs on a page."""
    return sampler.rng.choice(
        (
            "() => document.title",
            f"() => document.querySelectorAll('{css(sampler)}').length",
            f"() => document.querySelector('{css(sampler)}').textContent",
            f"() => localStorage.getItem('{sampler.word('nouns')}')",
            f"() => window.scrollTo(0, {sampler.digits(1, 3000)})",
        )
    )


def mermaid(sampler: Sampler) -> str:
    """A diagram in Mermaid."""
    first, second, third = (sampler.word("nouns", "tech").capitalize() for _ in range(3))
    return sampler.rng.choice(
        (
            f"graph TD; {first}-->{second}; {second}-->{third}",
            f"flowchart LR; {first}-->{second}",
            f"sequenceDiagram\n{first}->>{second}: {sampler.word('verbs')}",
            f'pie title {third}\n"{first}" : {sampler.digits(1, 90)}\n"{second}" : {sampler.digits(1, 90)}',
        )
    )


def csv(sampler: Sampler) -> str:
    """A small table with commas."""
    rows = (f"{sampler.word('first_names')},{sampler.digits(1, 999)}" for _ in range(sampler.rng.randint(1, 3)))
    return "\n".join((f"{sampler.word('columns')},{sampler.word('numeric_columns')}", *rows))


def css(sampler: Sampler) -> str:
    """A selector of elements on a page."""
    word = sampler.word("nouns")
    return sampler.rng.choice((f"#{word}", f".{word}", f"button.{word}", f"input[name={word}]", f"#{word} > a"))


def markup(sampler: Sampler) -> str:
    """A short piece of markup."""
    tag = sampler.rng.choice(("p", "h1", "h2", "div", "b"))
    return f"<{tag}>{words(sampler, 1, 4)}</{tag}>"


def markdown(sampler: Sampler) -> str:
    """A short piece of Markdown."""
    text = words(sampler, 1, 4)
    return sampler.rng.choice((f"# {text.title()}", f"**{text}**", f"- {text}", sampler.phrase("sentence")))


def command(sampler: Sampler) -> str:
    """A command line."""
    name = sampler.word("nouns", "tech")
    return sampler.rng.choice(
        (f"npm run {name}", f"ls -la {name}", f"make {name}", f"python {name}.py", f"grep -r {name} .")
    )
