"""transformers and the hub's client without their bars, notices and telemetry, whoever needs them.

with hushed():
    model = AutoModel.from_pretrained(folder)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from logging import ERROR, getLogger


@contextmanager
def hushed() -> Iterator[None]:
    """Quiet for as long as it lasts; telemetry stays off."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import constants
    from tqdm import tqdm
    from transformers.utils import logging

    constants.HF_HUB_DISABLE_TELEMETRY = True  # it was read from the environment when the first library was imported
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    getLogger("huggingface_hub").setLevel(ERROR)  # a hub out of reach is told once, not at each retry
    getLogger("bitsandbytes").setLevel(ERROR)  # which tells each layer what it casts, and peft imports it wherever it is installed
    logging.disable_progress_bar()
    drawn = tqdm.__init__
    tqdm.__init__ = partialmethod(drawn, disable=True)  # what unpacks quantised weights has bars of its own, and no switch for them
    try:
        yield
    finally:
        tqdm.__init__ = drawn
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
