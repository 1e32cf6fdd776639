"""Whether a text is SQL that parses, as sqlglot reads it; the door to that library.

problem = judge("postgres")
problem("SELECT 1")             # ''
problem("SELEC 1")              # what is wrong
"""

import difflib
import logging
from collections.abc import Callable

_NAMES = """
athena bigquery clickhouse databricks doris dremio drill druid duckdb exasol fabric hive materialize mysql oracle postgres presto prql
redshift risingwave singlestore snowflake solr spark spark2 sqlite starrocks tableau teradata trino tsql
"""
DIALECTS = frozenset(_NAMES.split())
"""A literal, so that a recipe is checked without loading the library."""


def judge(dialect: str) -> Callable[[str], str]:
    """What says why a text is no SQL in a dialect (nothing: in the common one), nothing where it is. A statement that the library does not
    understand, and passes on as it is, does not parse.

    Raises:
        ValueError: there is no such dialect; names the nearest.
    """
    if dialect and dialect not in DIALECTS:
        near = difflib.get_close_matches(dialect, DIALECTS, n=1, cutoff=0.5)
        raise ValueError(
            f"{dialect!r} is no dialect of SQL; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(DIALECTS))}")
        )

    def problem(text: str) -> str:
        import sqlglot
        from sqlglot import exp
        from sqlglot.errors import SqlglotError

        logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of statements that it passes on
        try:
            found = [statement for statement in sqlglot.parse(text, read=dialect or None) if statement is not None]
        except (SqlglotError, RecursionError, UnicodeError) as error:
            return f"no SQL: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
        if not found:
            return "no SQL: there is no statement"
        unread = next(
            (statement for statement in found if isinstance(statement, exp.Command | exp.Column | exp.Identifier | exp.Alias)), None
        )
        return f"no SQL: not understood: {text.strip()[:60]!r}" if unread is not None else ""

    return problem
