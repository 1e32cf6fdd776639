"""The program: `synthdistill`, and `python -m synthdistill`."""

import gc


def main() -> None:
    """The command line, with a garbage collector that looks seldom: imports leave no garbage, and at the end the system takes all of it.
    To look as often as Python does would be a fifth of the start-up."""
    gc.set_threshold(20_000, 20, 20)
    from synthdistill import cli

    try:
        cli.main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
