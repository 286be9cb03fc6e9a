"""The site of the documentation: ``tools/site`` builds and tests it."""

import os
import re
import sys

import sphinx.ext.autosummary
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

import fastattn

project = "fastattn"
author = "fastattn developers"
version = release = fastattn.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["templates", "tutorials"]
templates_path = ["templates"]
nitpicky = True
highlight_language = "none"

# Pages are Markdown with formulas between dollars; a link to a heading is written as for a forge.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

# A module's page lists its __all__ and nothing else; each name has a page of its own.
default_role = "py:obj"
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # the docstrings say types, with shapes
numpydoc_show_class_members = False  # the template of a class has them
# The first sentence of a docstring ends at a full stop; the dot of a product has a space before it.
sphinx.ext.autosummary.periods_re = re.compile(r"(?<=\S)\.\s+")

FIRST = ["plot_why_attention.py", "plot_every_mechanism.py"]


class Order:
    """The order of tutorials: some first, others by name."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name):
        """Return what to sort the tutorial of this name by."""
        return FIRST.index(name) if name in FIRST else len(FIRST), name


suppress_warnings = ["config.cache"]  # the order is a class, which Sphinx does not save
sphinx_gallery_conf = {
    "within_subsection_order": Order,
    "examples_dirs": "tutorials",
    "gallery_dirs": "generated/tutorials",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),  # where a legend of matplotlib lies in memory is nothing to read
    "min_reported_time": 1000,
    "show_signature": False,
    "ignore_repr_types": r"matplotlib[.].*",  # of the last line of a cell, which draws
    "download_all_examples": False,
    "write_computation_times": False,
}
os.environ.setdefault("TQDM_DISABLE", "1")  # bars of progress are for terminals

html_theme = "pydata_sphinx_theme"
html_title = "fastattn"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "fastattn"},
    "show_toc_level": 2,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "words": []},  # its tables are wide
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
copybutton_prompt_text = ">>> |\\.\\.\\. "
copybutton_prompt_is_regexp = True


def formula(translator, node):
    """Write a formula as MathML, which browsers draw without a script or a font from elsewhere."""
    text = re.sub(r"\\dots\b", r"\\ldots", node.astext())  # the one name for it that is known
    try:
        translator.body.append(tex2mathml(text, as_block=isinstance(node, nodes.math_block)))
    except MathError as error:
        logging.getLogger(__name__).warning("%s: %s", error, text, location=node)
    raise nodes.SkipNode


# Pages of the site that include a file from outside docs/, whose links lead there.
INCLUDED = {"../benchmarks/quality/README.md": "quality.md"}


def as_page(app, name, source):
    """Make a page of the site of one that is read as a file: titles for names of files, no empty line ends a block."""
    text = source[0]
    for path, page in INCLUDED.items():
        text = text.replace(f"]({path})", f"]({page})")
    text = re.sub(r"\[[\w/.-]+\.md\](?=\([\w/.-]+\.md[)#])", "[]", text)
    source[0] = re.sub(r"^(```pycon\n.*?\n)\n(?=```$)", r"\1", text, flags=re.MULTILINE | re.DOTALL)


def public_bases(app, name, obj, options, bases):
    """Show the bases that have a page; a private one's methods are on the page of the class."""

    def public(base):
        part = sys.modules[".".join(base.__module__.split(".")[:2])]
        return base.__name__ in getattr(part, "__all__", ())

    bases[:] = [base for base in bases if isinstance(base, type) and public(base)] or [object]


def our_name(app, env, node, content):
    """Find what docstrings call by a short name, or by the file it is in; what is not ours is no link."""
    if node.get("refdomain") != "py":
        return None
    domain, target = env.domains.python_domain, node["reftarget"]
    parts = target.split(".")
    ours = parts[0] == "fastattn"
    tail = "." + ".".join(parts[-1:] if ours else parts)
    found = [name for name in domain.objects if name.endswith(tail) and (not ours or name.split(".")[1] == parts[1])]
    if found and (ours or len(parts) > 1 or target[0].isupper()):
        node["reftarget"] = min(found, key=len)
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", node["reftarget"], node, content)
    return None if ours else content


def setup(app):
    """Add what is ours to the application."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("source-read", as_page)
    app.connect("autodoc-process-bases", public_bases)
    app.connect("missing-reference", our_name)
