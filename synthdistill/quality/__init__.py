"""Judgements of rows: each is a plain function that keeps a row or gives a reason."""
