"""The program: `synthdistill`, and `python -m synthdistill`."""

import gc
import sys


def main() -> None:
    """The command line, with a garbage collector that looks seldom: imports leave no garbage, and to look for some every 700 objects, as
    Python does, and through all of them at the end is a fifth of the start-up."""
    gc.set_threshold(20_000, 20, 20)
    from synthdistill import cli

    try:
        cli.main()
    finally:
        if "torch" not in sys.modules:  # its bindings report what they find alive at the end
            gc.freeze()


if __name__ == "__main__":
    main()
