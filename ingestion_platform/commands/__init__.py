"""
The platform's own commands that are more than a line: each module adds one to the command line, and tells what happened.

Belongs here: reading arguments, and words for a person. Doesn't: the work (`warehouse/`).
"""
