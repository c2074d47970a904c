"""Write a page for every public module, so that the API pages follow the code by themselves.

A public name has one home: the package that offers it on first use (``segalgos``,
``segalgos.metrics``, ``segalgos.datasets``, ``segalgos.formats``), else the module that
defines it. Its page is there; other module pages link to it.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import segalgos

INDEXES = ("segalgos", "segalgos.metrics", "segalgos.datasets", "segalgos.formats")


def public_modules() -> list[str]:
    """Names of the modules that have public names, ``segalgos`` first."""
    found = ["segalgos"]
    for info in pkgutil.walk_packages(segalgos.__path__, "segalgos."):
        private = any(part.startswith("_") for part in info.name.split("."))
        if not private and getattr(importlib.import_module(info.name), "__all__", None):
            found.append(info.name)
    return found


def public_names(module: ModuleType) -> list[str]:
    """The documented classes and functions that a module offers."""
    return [
        name
        for name in module.__all__
        if inspect.isroutine(value := getattr(module, name)) or inspect.isclass(value)
    ]


def find_homes() -> dict[object, str]:
    """The dotted name under which each public object is documented."""
    homes: dict[object, str] = {}
    for name in [*INDEXES, *public_modules()]:
        module = importlib.import_module(name)
        for attribute in public_names(module):
            homes.setdefault(getattr(module, attribute), f"{name}.{attribute}")
    return homes


def write(folder: Path) -> list[str]:
    """Write ``<module>.rst`` for each public module, and ``modules.inc`` that lists them.

    Gives the paths of the pages. Pages of names that are gone are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    homes, modules = find_homes(), public_modules()
    for page in folder.glob("*.rst"):
        if page.stem not in {*modules, *homes.values()}:
            page.unlink()
    for name in modules:
        module = importlib.import_module(name)
        values = [getattr(module, attribute) for attribute in public_names(module)]
        # An object that an index re-exports is not listed again where it is merely imported.
        values = [v for v in values if name in INDEXES or v.__module__ == name]
        _write(folder / f"{name}.rst", _module_page(name, [homes[value] for value in values]))
    lines = ["Modules", "-------", "", ".. autosummary::", ""]
    lines += [f"   {name}" for name in modules]
    lines += ["", ".. toctree::", "   :hidden:", ""]
    lines += [f"   generated/{name}" for name in modules]
    _write(folder / "modules.inc", "\n".join(lines) + "\n")
    return [str(folder / f"{name}.rst") for name in modules]


def _module_page(name: str, targets: list[str]) -> str:
    here = [t.rpartition(".")[2] for t in targets if t.rpartition(".")[0] == name]
    elsewhere = [t for t in targets if t.rpartition(".")[0] != name]
    lines = [name, "=" * len(name), "", f".. automodule:: {name}"]
    for options, names in ((["   :toctree: ."], here), ([], elsewhere)):
        if names:
            lines += ["", ".. autosummary::", *options, "", *(f"   {n}" for n in names)]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file only if that changes it: a rebuild then reads only what changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def skip_foreign(app, what, name, value, skip, options):
    """Leave out members that come from another package, such as torch's or scikit-learn's."""
    function = getattr(value, "fget", None) or inspect.unwrap(getattr(value, "__func__", value))
    module = getattr(function, "__module__", None)
    foreign = module is not None and module.partition(".")[0] != "segalgos"
    return True if foreign else None


def setup(app):
    """Connect the filter of members."""
    app.connect("autodoc-skip-member", skip_foreign)
    return {"parallel_read_safe": True}
