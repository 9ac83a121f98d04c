"""`python -m sockade` is `sockade`."""

import sys

from sockade.cli.main import main

sys.exit(main())
