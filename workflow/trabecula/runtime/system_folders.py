"""Names of folders that storage systems make by themselves: what lies in them is no part of an archive."""

_NAMES = frozenset(
    {
        # earlier states of the whole storage: the same files once more
        *(".snapshot", ".snapshots", "#snapshot", "~snapshot", "@recently-snapshot", ".snap", ".ckpt", ".zfs"),
        # deleted files
        *("$recycle.bin", "recycler", "#recycle", "@recycle", ".trash", ".trashes"),
        # what file servers, Windows and macOS note about files
        *("@eadir", ".@__thumb", "system volume information", ".appledouble", "__macosx", ".spotlight-v100"),
        *(".fseventsd", ".temporaryitems", ".documentrevisions-v100"),
        # pieces of files after a repair of the file system
        "lost+found",
    }
)
_BEGINNING = ".trash-"  # one per user, by the Trash specification of freedesktop.org


def is_system_folder(name: str) -> bool:
    """Tell whether a folder's name is one that storage systems give; capital letters count like small ones.

    >>> is_system_folder("$Recycle.Bin"), is_system_folder(".Trash-1000"), is_system_folder("snapshot")
    (True, True, False)
    """
    name = name.lower()
    return name in _NAMES or name.startswith(_BEGINNING)
