"""`python -m medbill.stack …` is `medbill stack …`."""

import sys

from medbill.errors import MedbillError
from medbill.stack.cli import app

try:
    app(prog_name="medbill stack")
except MedbillError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
