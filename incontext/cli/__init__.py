"""The command line: `entry.py` parses and sets exit codes; every verb has its own file."""

from incontext.cli.entry import main as main
