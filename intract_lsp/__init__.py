"""intract-lsp: inline code completions from a model on your own machine."""

import logging
import sys

__version__ = "0.1.0"

# Where the package `kernels` is installed, bitsandbytes and transformers fetch compiled code from the Hugging Face hub
# with it and run that, unasked. Here, since every process of ours begins here.
sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]
# It would have the user install that package.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
