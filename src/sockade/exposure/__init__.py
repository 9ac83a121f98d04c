"""Secure or refuse: which settings are not started with, and which are weaker than the default.

Each rule reads settings and the files they name, and answers with sentences that say which setting is wrong and what
to do. Single values are judged by the models in `sockade.settings`.
"""

from sockade.exposure import files
from sockade.exposure.files import networks_in
from sockade.exposure.refused import problems
from sockade.exposure.weakened import weakened

__all__ = ["files", "networks_in", "problems", "weakened"]
