"""``python -m cvsa``: the command line, where the script is not on the path."""

from cvsa.cli import main

main(prog_name="cvsa")
