"""The command `ganflow`: main.py lists its commands, one file for each group of them. The only use of typer."""
