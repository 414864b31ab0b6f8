"""One module a command: its arguments, and what it does with them; `inputs` is what they
have in common. Part of floor 5.

Each has `add_arguments(parser)` and `run(args) -> exit status`; `HELP` is its line in the
overview. `DEFAULTS` are the values of all its arguments but INPUT, if that alone is enough
for it. `TROUBLE`, if it has it, is the exit status for an input that it cannot read.
"""
