"""Train the builtin spine network on synthetic and real scans with strong randomisation.

Training has two rounds. Scans that are held back join for the second one only; the network as it was before is kept
beside the bundle, so that these scans, too, say how it does on scans that it has not seen.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.networks.nets.unet import UNet

from trabecula.model.spine_network import save_bundle
from trabecula.train_segmenter.card import dice_in, write_card
from trabecula.train_segmenter.examples import SYNTHETIC, make_synthetic, read_real
from trabecula.train_segmenter.fit import Recipe, build, train

__all__ = ["Recipe", "train_bundle"]


def train_bundle(folder: Path, *, real: Path | None, state: Path, recipe: Recipe | None = None) -> None:
    """Read the data, train in two rounds, and write the bundle with its model card.

    Parameters
    ----------
    folder : Path
        Bundle to write. Beside it, ``{folder}_before`` becomes a bundle of the network before the held-back scans
        joined: for measuring, not for use.
    real : Path or None
        Folder that holds the real scans; None trains on synthetic patients alone.
    state : Path
        State from which a training that was killed goes on; removed in the end.
    recipe : Recipe, optional
        How the network is trained; by default as the shipped one was.
    """
    recipe = recipe or Recipe()
    early = [*read_real(real, recipe.sources), *make_synthetic(recipe.synthetic_patients, seed=recipe.seed)]
    late = read_real(real, recipe.held_back)
    network = train(build(recipe.seed), early, recipe.first_round, device=recipe.device, state=state)
    unseen = dice_in(network, late)
    _save_before(network, folder, recipe, sources=recipe.sources if real else (), unseen=unseen)
    late_state = state.with_suffix(f".late{state.suffix}")
    if late:
        network = train(network, [*late, *early], recipe.late_round, device=recipe.device, state=late_state)
    scans = [example for example in (*early, *late) if example.name != SYNTHETIC]
    seen = dice_in(network, [*scans, early[-1]])
    facts = {
        "steps": recipe.steps,
        "late_steps": recipe.late_steps if late else 0,
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        "parameters": sum(weights.numel() for weights in network.parameters()),
        "real": [scan.name for scan in scans],
        "synthetic_patients": recipe.synthetic_patients,
    }
    save_bundle(network, folder, facts=facts)
    write_card(folder, facts, unseen=unseen, seen=seen)
    for path in (state, late_state):
        path.unlink(missing_ok=True)


def _save_before(
    network: UNet, folder: Path, recipe: Recipe, *, sources: tuple[str, ...], unseen: Mapping[str, Any]
) -> None:
    """Write the network as it was before the held-back scans joined."""
    facts = {
        "real": sources,
        "synthetic_patients": recipe.synthetic_patients,
        "seed": recipe.seed,
        "steps": recipe.steps,
        "dice_unseen": unseen,
    }
    save_bundle(network, folder.with_name(f"{folder.name}_before"), facts=facts)
