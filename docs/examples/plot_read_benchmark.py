"""
A small benchmark, and its rows
===============================

``segalgos bench`` writes a report. Its rows are plain JSON, so you can also draw your own
pictures. This is a small run on rendered images.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from segalgos.bench import runner, suite

# %%
# The same as ``segalgos bench --methods felzenszwalb,slic --data 'shapes[size=(96,128)]'
# --max-images 4`` in a shell:

methods = suite.parse_methods("felzenszwalb,slic")
data = suite.parse_data("shapes[size=(96,128)]")
cells, _ = suite.make_cells(methods, data, max_images=4)
limits = runner.Limits(seconds=60, bytes=4e9)
folder = tempfile.TemporaryDirectory()
runner.run_cells(cells, folder.name, limits)

# %%
# A row holds the scores in total and of each image, times, memory, parameters, versions and the
# machine.

from segalgos.bench.store import read_rows

rows, _ = read_rows(Path(folder.name, "results.jsonl"))
for row in rows:
    scores = row["views"]["partition"]["scores"]
    print(f"{row['method']}, tuned to {row['tuned']}: covering {scores['covering']:.3f}")

# %%
# One dot is one image. Both methods have seen the same ones, so that pairs can be compared.

figure, panel = plt.subplots(figsize=(6, 4), layout="constrained")
for row in rows:
    covering = row["views"]["partition"]["images"]["covering"]
    panel.plot(row["image_names"], covering, "o", label=row["method"])
panel.set(ylabel="covering", ylim=(0, 1))
panel.tick_params(axis="x", rotation=45)
panel.legend()

folder.cleanup()
