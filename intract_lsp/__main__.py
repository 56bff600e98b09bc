"""`python -m intract_lsp` is `intract-lsp`."""

from intract_lsp.cli import main

if __name__ == "__main__":
    main()
