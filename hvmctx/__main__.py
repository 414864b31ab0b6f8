"""`python -m hvmctx`."""

from hvmctx.cli import run

if __name__ == "__main__":
    run()
