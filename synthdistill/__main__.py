"""The program: `synthdistill`, and `python -m synthdistill`."""

import gc


def main() -> None:
    """The command line, with a garbage collector that looks seldom: imports leave no garbage, and to look for some every 700 objects, as
    Python does, is a tenth of the start-up."""
    gc.set_threshold(20_000, 20, 20)
    from synthdistill import cli

    cli.main()


if __name__ == "__main__":
    main()
