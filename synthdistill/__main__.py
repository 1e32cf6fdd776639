"""`python -m synthdistill` is the same program as `synthdistill`."""

from synthdistill.cli import main

if __name__ == "__main__":
    main()
