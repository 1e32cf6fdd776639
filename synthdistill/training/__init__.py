"""From examples to a student: the only room that imports trl."""
