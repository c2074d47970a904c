"""Sphinx's settings. Build with ``python -m sphinx -W -j auto -b html docs docs/_build/html``."""

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ["PYTHONPATH"] = str(HERE.parent)  # for the processes that the gallery starts
os.environ["MPLBACKEND"] = "agg"

import api_pages
from sphinx_gallery.sorting import FileNameSortKey

import segalgos

project = "segalgos"
copyright = "the segalgos developers"
author = "the segalgos developers"
version = release = segalgos.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "active_learning_curves",
    "api_pages",
    "from_code",
    "hierarchy_slider",
    "learning_curves",
    "net_figures",
]
exclude_patterns = ["_build", "_generated", "_ext", "examples"]
templates_path = ["_templates"]
default_role = "py:obj"
suppress_warnings = ["config.cache"]  # sphinx-gallery's sort key cannot be pickled

# --- API pages: one for each public module, one for each name in it ----------------------

autosummary_generate = api_pages.write(HERE / "api" / "generated")
autodoc_typehints = "none"  # types, with shapes, stand in the docstrings
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

# --- prose -------------------------------------------------------------------------------

myst_enable_extensions = ["deflist", "colon_fence", "attrs_inline", "dollarmath"]
myst_heading_anchors = 3

# --- gallery -----------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": FileNameSortKey,
    "doc_module": ("segalgos",),
    "backreferences_dir": "api/generated/examples",
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
    "capture_repr": (),
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "image_srcset": ["2x"],
    "parallel": True,  # as many processes as `sphinx -j` says
}
warnings.filterwarnings("error", module="segalgos")

# --- look --------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"segalgos {release}"
html_static_path = ["_static"]
html_css_files = ["segalgos.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "segalgos"},
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "collapse_navigation": True,
    "header_links_before_dropdown": 5,
    # Pages with a figure of a net need the width.
    "secondary_sidebar_items": {"**": ["page-toc"]}
    | {f"nets/{net}": [] for net in ("fcn", "unet", "deeplab", "segformer", "ddrnet")},
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# Single pages have no section to navigate.
html_sidebars = {
    page: []
    for page in (
        "guide",
        "choosing",
        "active_learning",
        "contours",
        "benchmark",
        "results",
        "cityscapes",
        "contour_gradients",
        "data",
        "command_line",
        "own_segmenter",
        "model_files",
        "glossary",
        "architecture",
        "changelog",
    )
}
