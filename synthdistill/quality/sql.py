"""Whether a text is SQL that parses, as sqlglot reads it; the door to that library.

problem = judge("postgres")
problem("SELECT 1")             # ''
problem("SELEC 1")              # what is wrong
"""

import difflib
import logging
from collections.abc import Callable

from synthdistill.errors import RecipeError, require

_NAMES = """
athena bigquery clickhouse databricks doris dremio drill druid duckdb dune exasol fabric hive materialize mysql oracle postgres presto prql
redshift risingwave singlestore snowflake solr spark spark2 sqlite starrocks tableau teradata trino tsql
"""
DIALECTS = frozenset(_NAMES.split())
"""A literal, so that a recipe is checked without loading the library."""


def known(dialect: str) -> None:
    """Refuse a dialect that there is not, without loading the library.

    Raises:
        ValueError: there is no such dialect; names the nearest.
    """
    if dialect and dialect not in DIALECTS:
        near = difflib.get_close_matches(dialect, DIALECTS, n=1, cutoff=0.5)
        raise ValueError(
            f"{dialect!r} is no dialect of SQL; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(DIALECTS))}")
        )


def judge(dialect: str) -> Callable[[str], str]:
    """What says why a text is no SQL in a dialect (nothing: in the common one), nothing where it is. A statement that the library does not
    understand, and passes on as it is, does not parse; nor does an expression alone, as `1`, `{"a": 1}` or `yes and no`.

    Raises:
        ValueError: there is no such dialect.
        MissingError: the extra `verify` is not installed.
        RecipeError: the version of the library that is installed does not know the dialect.
    """
    known(dialect)
    require("sqlglot", "verify", "[filter] verify = sql")
    import sqlglot
    from sqlglot import exp

    try:
        sqlglot.Dialect.get_or_raise(dialect or None)
    except ValueError as error:
        raise RecipeError(f"[filter] verify: the sqlglot that is installed does not know {dialect!r}", "pip install -U sqlglot") from error
    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of statements that it passes on
    no_statement = (exp.Command, exp.Condition, exp.Alias, exp.Identifier, exp.Interval, exp.Star, exp.Tuple)

    def problem(text: str) -> str:
        try:
            found = [part for part in sqlglot.parse(text, read=dialect or None) if part is not None and not isinstance(part, exp.Semicolon)]
        except Exception as error:  # besides its own errors it stumbles on odd text with IndexError, AttributeError and others
            return f"no SQL: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
        if not found:
            return "no SQL: there is no statement"
        unread = any(isinstance(part, no_statement) for part in found)
        return f"no SQL: not understood: {text.strip()[:60]!r}" if unread else ""

    return problem
