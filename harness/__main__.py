"""``python -m harness``: the command line where a launcher wants a module (``accelerate launch -m harness``)."""

from .cli import main

if __name__ == "__main__":
    main()
