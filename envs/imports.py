"""Import every module of the package: an environment that lacks what one of them needs fails here, not in a job."""

import importlib
import pkgutil

import trabecula

if __name__ == "__main__":
    names = [module.name for module in pkgutil.walk_packages(trabecula.__path__, "trabecula.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    print(f"{len(names)} modules were imported.")
