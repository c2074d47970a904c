"""Validate the docstrings of everything public by numpydoc's rules.

    python docs/validate_docstrings.py

Prints each problem and exits with 1 if there is any.
"""

import importlib
import inspect
import pkgutil
import sys

from numpydoc.validate import validate

import segalgos

#: Rules that are not ours, and why.
NOT_OURS = {
    "ES01": "an extended summary is written where there is more to say",
    "SA01": "See Also is written where there is something to see",
    "EX01": "examples stand in the guide and gallery",
    "RT03": "a return whose type line says it all needs no second line",
    "PR07": "a parameter whose type line says it all needs no second line",
    "YD01": "context managers yield nothing worth a section",
    "RT04": "a description may start with a symbol or a lower-case name, such as sRGB",
}


def public_objects():
    """Yield (dotted name, object) for every public module, class, function and method."""
    for module_info in pkgutil.walk_packages(segalgos.__path__, "segalgos."):
        name = module_info.name
        if any(part.startswith("_") for part in name.split(".")):
            continue
        module = importlib.import_module(name)
        yield name, module
        for attribute in getattr(module, "__all__", []):
            value = getattr(module, attribute)
            if getattr(value, "__module__", None) != name:
                continue  # a re-export or a constant
            yield f"{name}.{attribute}", value
            if inspect.isclass(value):
                for member, function in vars(value).items():
                    function = getattr(function, "__func__", function)
                    # scikit-learn adds methods such as set_fit_request, with their own text.
                    own = getattr(function, "__module__", None) == name
                    if own and not member.startswith("_") and inspect.isroutine(function):
                        yield f"{name}.{attribute}.{member}", function


def main() -> int:
    """Print every problem; the exit code is 1 if there is one."""
    problems = checked = 0
    for name, value in public_objects():
        checked += 1
        if not (getattr(value, "__doc__", None) or "").strip():
            print(f"{name}: no docstring")
            problems += 1
            continue
        if inspect.ismodule(value):
            continue
        for code, message in validate(name)["errors"]:
            if code not in NOT_OURS:
                print(f"{name}: {code} {message}")
                problems += 1
    print(f"{checked} public names checked, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
