"""The catalogue holds every segmenter of the package, and importing it costs nothing."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import segalgos
from segalgos import catalog
from segalgos.base import Segmenter
from segalgos.catalog import ENTRIES, all_segmenters, get_entry, get_segmenter

has_torch = importlib.util.find_spec("torch") is not None


def _modules():
    """Import every module of the package; those of an extra only where it is installed."""
    for info in pkgutil.walk_packages(segalgos.__path__, "segalgos."):
        if info.name == "segalgos.__main__":
            continue  # running it is its purpose
        try:
            yield importlib.import_module(info.name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("segalgos"):
                raise


def _classes():
    for module in _modules():
        for cls in vars(module).values():
            if inspect.isclass(cls) and issubclass(cls, Segmenter):
                yield cls


def test_every_segmenter_is_in_the_catalogue():
    found = {
        f"{cls.__module__}.{cls.__name__}"
        for cls in _classes()
        if not cls.__name__.startswith("_") and hasattr(cls, "traits")  # bases have none
    }
    assert found == {f"{e.module}.{e.name}" for e in ENTRIES if e.installed}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.key)
def test_entry_agrees_with_its_class(entry):
    if not entry.installed:
        with pytest.raises(ImportError, match=re.escape(f"segalgos[{entry.extra}]")):
            entry.load()
        return
    cls = entry.load()
    assert (cls.__name__, cls.__module__) == (entry.name, entry.module)
    traits = cls.traits
    assert (traits.family, traits.task, traits.year) == (entry.family, entry.task, entry.year)
    assert entry.module.split(".")[1] == entry.family
    assert getattr(segalgos, entry.name) is cls
    assert entry.paper
    assert entry.summary


def test_keys_and_names_are_unique():
    words = [word for e in ENTRIES for word in (e.key, e.name)]
    assert len(words) == len(set(words))


def test_all_segmenters_filters():
    everything = all_segmenters()
    assert [cls.__name__ for cls in everything] == [e.name for e in ENTRIES if e.installed]
    families = {e.family for e in ENTRIES}
    assert {c for f in families for c in all_segmenters(family=f)} == set(everything)
    assert {c.traits.task for c in all_segmenters(task="semantic")} == {"semantic"}
    assert all_segmenters(family="graph", task="semantic") == [
        c for c in everything if (c.traits.family, c.traits.task) == ("graph", "semantic")
    ]


def test_lookup():
    assert get_entry("kmeans") is get_entry("KMeansSegmenter")
    assert get_segmenter("kmeans").__name__ == "KMeansSegmenter"
    with pytest.raises(ValueError, match=r"'kmean': did you mean 'kmeans'\?"):
        get_entry("kmean")
    with pytest.raises(ValueError, match=r"'zzz': choose from kmeans, gaussian_mixture"):
        get_segmenter("zzz")


def test_missing_extra_names_its_command():
    entry = catalog.Entry("x", "X", "no.such", "nets", "semantic", 2000, "p", "s", extra="nothere")
    assert not entry.installed
    with pytest.raises(ImportError, match=r"pip install 'segalgos\[nothere\]'"):
        entry.load()


def _stub_names():
    stub = Path(segalgos.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    return re.findall(r"import \w+ as (\w+)", stub)


@pytest.mark.parametrize("name", _stub_names())
def test_public_name_is_importable(name):
    entry = next((e for e in ENTRIES if e.name == name), None)
    if entry is not None and not entry.installed:
        pytest.skip(f"{name} needs {entry.extra}, which is not installed")
    assert getattr(segalgos, name) is not None
    assert name in dir(segalgos)
    assert name in segalgos.__all__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        segalgos.no_such_name  # noqa: B018


def _fresh(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(segalgos.__file__).parents[1],
    )
    return done.stdout.split()


HEAVY = "torch", "sklearn", "numba", "scipy", "skimage", "matplotlib", "numpy"


def test_import_loads_nothing_heavy():
    loaded = _fresh(f"import sys, segalgos; print(*[m for m in {HEAVY} if m in sys.modules])")
    assert loaded == []


def test_listing_the_catalogue_loads_no_algorithm():
    loaded = _fresh(
        f"import sys; from segalgos.catalog import ENTRIES; "
        f"print(len(ENTRIES), *[m for m in {HEAVY} if m in sys.modules])"
    )
    assert loaded == [str(len(ENTRIES))]


@pytest.mark.skipif(not has_torch, reason="torch is not installed")
def test_classical_segmenters_do_not_load_torch():
    loaded = _fresh(
        "import sys; from segalgos.catalog import ENTRIES; "
        "[e.load() for e in ENTRIES if e.extra is None]; print('torch' in sys.modules)"
    )
    assert loaded == ["False"]


@pytest.mark.parametrize(
    "use",
    [
        "segalgos.UNetSegmenter",
        "segalgos.UCMSegmenter('net', n_segments=2).predict([[0.0, 1.0]])",
    ],
)
def test_what_needs_torch_says_how_to_get_it(use):
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"import segalgos\n{use}"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert "needs torch: pip install 'segalgos[torch]'." in run.stderr.splitlines()[-1]
