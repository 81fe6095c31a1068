"""Settings of the four segmentation backends, as a rule passes them to its jobs.

Pure Python, since the driver of a run imports it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from trabecula.image.codings import CODINGS

Device = Literal["auto", "cpu", "cuda"]
# Networks of TotalSegmentator for 1.5 mm, or its one network for 3 mm.
Task = Literal["total", "fast"]


@dataclass(frozen=True)
class Settings:
    """Settings of one backend; paths are texts, so that Snakemake can compare them with those of the last run.

    Attributes
    ----------
    backend : str
        Name of the backend in the configuration.
    memory_mb : int
        Megabytes that a job asks for: enough for a scan of 512 x 512 x 800 voxels.
    """

    backend: ClassVar[str]
    memory_mb: ClassVar[int]

    def as_params(self) -> dict[str, Any]:
        """Give the settings as plain values, for the parameters of a rule.

        >>> Builtin(network="models/segmenter", device="cpu").as_params()
        {'backend': 'builtin', 'network': 'models/segmenter', 'device': 'cpu'}
        """
        return {"backend": self.backend, **asdict(self)}

    @property
    def coding_file(self) -> list[str]:
        """Path of the user's own coding that a job reads; empty where there is none."""
        return []

    @property
    def read_files(self) -> list[tuple[str, str]]:
        """Files and folders of the user's that every job reads; for a folder, the pattern of the files that count.

        The networks of TotalSegmentator are not among them: each of its releases names its own weights.
        """
        return [(path, "") for path in self.coding_file]


@dataclass(frozen=True)
class Builtin(Settings):
    """Settings of the network that this project trains.

    Attributes
    ----------
    network : str
        Folder of its bundle.
    device : {"auto", "cpu", "cuda"}
        Where it runs.
    """

    backend = "builtin"
    memory_mb = 6000  # 3,500 were measured
    network: str
    device: Device

    @property
    def read_files(self) -> list[tuple[str, str]]:
        """Files of the bundle, all of them."""
        return [(self.network, "**/*")]


@dataclass(frozen=True)
class TotalSegmentator(Settings):
    """Settings of TotalSegmentator.

    Attributes
    ----------
    task : {"total", "fast"}
        Its networks for 1.5 mm, or the one for 3 mm.
    device : {"auto", "cpu", "cuda"}
        Where they run.
    """

    backend = "totalsegmentator"
    memory_mb = 12000  # as `segment.memory` estimates
    task: Task
    device: Device


@dataclass(frozen=True)
class _Coded(Settings):
    """Settings of a backend whose label maps have numbers of their own.

    Attributes
    ----------
    coding : str
        What the numbers mean: a key of `codings.CODINGS`, or a file.
    """

    coding: str

    @property
    def coding_file(self) -> list[str]:
        """Path of the user's own coding that a job reads; empty where the coding is one of ours."""
        return [] if self.coding in CODINGS else [self.coding]


@dataclass(frozen=True)
class NnUNet(_Coded):
    """Settings of a trained nnU-Net v2 of the user's.

    Attributes
    ----------
    folder : str
        Folder that holds the network.
    folds : sequence of int or "all", or None
        Which of its folds answer together; None for all.
    device : {"auto", "cpu", "cuda"}
        Where it runs.
    """

    backend = "nnunet"
    memory_mb = 12000  # as `segment.memory` estimates
    folder: str
    folds: Sequence[int | str] | None
    device: Device

    @property
    def read_files(self) -> list[tuple[str, str]]:
        """Files of the network that a prediction reads, and the user's own coding."""
        return [*super().read_files, (self.folder, "*.json"), (self.folder, "fold_*/checkpoint_final.pth")]


@dataclass(frozen=True)
class Masks(_Coded):
    """Settings for label maps that the user has.

    Attributes
    ----------
    pattern : str
        Path of a study's label map, with fields to fill in.
    """

    backend = "masks"
    memory_mb = 4000  # 1,800 were measured
    pattern: str


def from_params(params: Mapping[str, Any]) -> Settings:
    """Make the settings from plain values (see `Settings.as_params`).

    >>> from_params({"backend": "masks", "coding": "verse", "pattern": "masks/{study_id}.nii.gz"})
    Masks(coding='verse', pattern='masks/{study_id}.nii.gz')
    """
    values = dict(params)
    backend = values.pop("backend")
    kinds: dict[str, type[Settings]] = {kind.backend: kind for kind in (Builtin, TotalSegmentator, NnUNet, Masks)}
    return kinds[backend](**values)
