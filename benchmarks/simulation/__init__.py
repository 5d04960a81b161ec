"""How the cost of each answer to "where is the session?" grows: a model, and its check.

python -m benchmarks.simulation            prints the computed tables of docs/scale.md
python -m benchmarks.simulation --draw     writes its pictures, docs/scale-*.svg
python -m benchmarks.simulation --check    compares the model with real servers on a real Redis
"""
