"""The backbone's species: which of them belong to which label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Members = npt.NDArray[np.bool_]

GENERA = {
    "bee": {"Anthidium", "Apis", "Bombus", "Megachile", "Melissodes", "Xylocopa"},
    "wasp": {
        "Ammophila", "Ancistrocerus", "Brachygastra", "Chalybion", "Dolichovespula", "Eremnophila", "Eumenes",
        "Monobia", "Polistes", "Sceliphron", "Scolia", "Sphecius", "Sphex", "Vespa", "Vespula",
    },
}  # fmt: skip


def members(species: list[str], label: str) -> Members:
    """Which of the species, scientific names with the genus first, belong to a label: (len(species),)."""
    genera = GENERA.get(label, set())
    return np.array([name.split()[0] in genera for name in species])
