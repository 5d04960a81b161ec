"""What sessions cost, beside what other packages' cost: the tables of docs/benchmarks.md.

python -m benchmarks.bench                 all parts
python -m benchmarks.bench asgi wsgi       some of them
python -m benchmarks.bench --quick         fewer rounds: minutes less, and noisier
python -m benchmarks.bench --write         and put the tables and plots into the page
"""
