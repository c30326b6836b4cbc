"""
What a statement in MariaDB's log does to tables, as far as rows don't tell it: their definition, TRUNCATE, DROP, RENAME.

Belongs here: words of SQL. Doesn't: what follows of it (`mariadb_changes.py`).

A statement is not understood, it is looked through: its first words, and the names in it.
"""

import re
from dataclasses import dataclass

_TOKENS = re.compile(
    r"""
    /\*[!M].*?(?=\s)|\*/            # what only MariaDB is to read: its beginning and its end
    |/\*.*?\*/|--[\s].*?$|\#.*?$    # comments
    |(?P<quoted>`(?:[^`]|``)*`)
    |(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    |(?P<word>[\w$]+)
    |(?P<sign>[.,();=])
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_ROWS = ("INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "WITH", "CALL")
_FILLERS = (
    "TABLE",
    "TABLES",
    "IF",
    "EXISTS",
    "NOT",
    "OR",
    "REPLACE",
    "TEMPORARY",
    "ONLINE",
    "IGNORE",
    "OFFLINE",
    "WAIT",
    "NOWAIT",
)


@dataclass(frozen=True, slots=True)
class Done:
    """
    What a statement has done.

    Args:
        verb: its first word, in capitals.
        emptied: tables, `database.table`, that have no row any more.
        emptied_database: all tables of this database have none.
        swapped: tables whose rows may be others now, and nothing in the log says which.
        altered: tables whose definition may be another one.
        named: all names that stand in it, where it changes rows as a statement, and not row by row.
    """

    verb: str
    emptied: tuple[str, ...] = ()
    emptied_database: str = ""
    swapped: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()


def look_through(statement: str, database: str) -> Done:
    """
    What a statement does.

    Args:
        statement: as it stands in the log.
        database: the one in which it was run; names without one are of it.
    """
    words = [(found.lastgroup or "", found.group()) for found in _TOKENS.finditer(statement) if found.lastgroup]
    first = words[0][1].upper() if words else ""
    if first in _ROWS:
        return Done(first, named=frozenset(_bare(kind, word) for kind, word in words if kind != "sign"))
    upper = [word.upper() if kind == "word" else "" for kind, word in words]
    if first == "TRUNCATE":
        return Done(first, emptied=tuple(_names(words, 1, database)[:1]))
    if first in ("DROP", "CREATE", "ALTER", "RENAME", "OPTIMIZE", "ANALYZE", "REPAIR"):
        return _definition(first, words, upper, database)
    return Done(first)


def _definition(first: str, words: list[tuple[str, str]], upper: list[str], database: str) -> Done:
    head = [word for word in upper[1:5] if word]
    if first == "DROP" and head[:1] in (["DATABASE"], ["SCHEMA"]):
        at = next((n for n in range(2, len(words)) if upper[n] not in ("IF", "EXISTS")), None)
        return Done(first, emptied_database=_bare(*words[at]) if at is not None else "")
    if "TABLE" not in head and "TABLES" not in head:
        return Done(first)
    start = 1 + next(n for n, word in enumerate(upper[1:]) if word in ("TABLE", "TABLES"))
    names = _names(words, start, database)
    if first == "DROP":
        # The table of a session isn't one that is captured, though it may have the name of one.
        return Done(first) if "TEMPORARY" in head else Done(first, emptied=tuple(names))
    if first == "CREATE":
        if "TEMPORARY" in head:
            return Done(first)
        return Done(first, emptied=tuple(names[:1]) if "REPLACE" in head else (), altered=tuple(names[:1]))
    if first == "RENAME":
        return Done(first, swapped=tuple(names))
    if first == "ALTER":
        return _altered(names[:1], words, upper, database)
    return Done(first)


def _altered(names: list[str], words: list[tuple[str, str]], upper: list[str], database: str) -> Done:
    swapped: list[str] = []
    for at, word in enumerate(upper):
        if word == "RENAME" and upper[at + 1 : at + 2] not in (["COLUMN"], ["INDEX"], ["KEY"]):
            rest = at + 1
            while upper[rest : rest + 1] in (["TO"], ["AS"]) or words[rest : rest + 1] == [("sign", "=")]:
                rest += 1
            swapped += [*names, *_names(words, rest, database)[:1]]
        if word == "PARTITION" and upper[at - 1] in ("TRUNCATE", "DROP", "EXCHANGE", "CONVERT"):
            swapped += names
            if upper[at - 1] == "EXCHANGE" and "TABLE" in upper[at:]:
                swapped += _names(words, upper.index("TABLE", at) + 1, database)[:1]
        if word == "TABLE" and upper[at - 1] == "CONVERT":
            swapped += names
    return Done("ALTER", swapped=tuple(dict.fromkeys(swapped)), altered=tuple(names))


def _bare(kind: str, word: str) -> str:
    if kind == "quoted":
        return word[1:-1].replace("``", "`")
    if kind == "text":
        return word[1:-1]
    return word


def _names(words: list[tuple[str, str]], start: int, database: str) -> list[str]:
    """Names of tables from a place on: `a, b.c to d`, until something else comes."""
    names: list[str] = []
    at = start
    while at < len(words) and words[at][0] == "word" and words[at][1].upper() in _FILLERS:
        at += 1
    while at < len(words):
        kind, word = words[at]
        if kind == "sign":
            break
        name, at = _bare(kind, word), at + 1
        if words[at : at + 1] == [("sign", ".")] and at + 1 < len(words):
            names.append(f"{name}.{_bare(*words[at + 1])}")
            at += 2
        else:
            names.append(f"{database}.{name}")
        # Time limits may stand between the names of a RENAME.
        while at < len(words) and (words[at][1].upper() in ("WAIT", "NOWAIT") or words[at][1].isdigit()):
            at += 1
        if at < len(words) and (words[at] == ("sign", ",") or words[at][1].upper() == "TO"):
            at += 1
            continue
        break
    return names
