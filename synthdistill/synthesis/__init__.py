"""More rows from those that are there: the teacher writes them, what repeats is dropped, and each says where it comes from."""
