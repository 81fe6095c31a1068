"""Train the builtin spine network on synthetic and real scans with strong randomisation.

Scans that are held back join for the last steps only. The network as it was before is kept beside the bundle, so
that these scans, too, say how it does on what it has not seen.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trabecula.model.spine_network import save_bundle
from trabecula.train_segmenter.card import dice_in, write_card
from trabecula.train_segmenter.examples import make_synthetic, read_real
from trabecula.train_segmenter.fit import Recipe, build, train

__all__ = ["train_bundle"]

# The network is no longer new when the held-back scans join.
LATE_RATE = 0.5


def train_bundle(
    folder: Path,
    *,
    real: Path | None,
    sources: Sequence[str],
    held_back: Sequence[str],
    synthetic_patients: int,
    steps: int,
    late_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device: str,
    state: Path,
) -> None:
    """Read the data, train twice, and write the bundle with its model card.

    Parameters
    ----------
    folder : Path
        The bundle to write. Beside it, ``{folder}_before`` becomes a bundle of the network before the held-back
        scans joined: for measuring, not for use.
    real : Path or None
        Folder that holds the real scans; None trains on synthetic patients alone.
    sources, held_back : sequence of str
        Names of real scans (`examples.READERS`) that are in the training, and of those that join at the end.
    synthetic_patients, steps, late_steps, batch_size, learning_rate, seed
        See the configuration.
    device : {"cpu", "cuda"}
        Where.
    state : Path
        Resumable state; removed in the end.
    """
    recipe = Recipe(steps, batch_size, learning_rate, seed)
    early = [*read_real(real, sources), *make_synthetic(synthetic_patients, seed=seed)]
    late = read_real(real, held_back)
    shared = {"real": [*sources] if real else [], "synthetic_patients": synthetic_patients, "seed": seed}
    network = train(build(seed), early, recipe, device=device, state=state, what="train segmenter")
    unseen = dice_in(network, late)
    before = folder.with_name(f"{folder.name}_before")
    save_bundle(network, before, facts=shared | {"steps": steps, "dice_unseen": unseen})
    late_state = state.with_suffix(f".late{state.suffix}")
    if late:
        last = replace(recipe, steps=late_steps, learning_rate=LATE_RATE * learning_rate, seed=seed + 1)
        network = train(network, [*late, *early], last, device=device, state=late_state, what="train with all scans")
    seen = dice_in(network, [*read_real(real, [*sources, *held_back]), early[-1]])
    facts = {"steps": steps, "late_steps": late_steps if late else 0, "batch_size": batch_size, "seed": seed}
    facts["parameters"] = sum(weights.numel() for weights in network.parameters())
    names = [example.name for example in (*early, *late) if example.name != "synthetic"]
    save_bundle(network, folder, facts=facts | {"real": names, "synthetic_patients": synthetic_patients})
    write_card(folder, real=names, synthetic=synthetic_patients, unseen=unseen, seen=seen, facts=facts)
    for path in (state, late_state):
        path.unlink(missing_ok=True)
