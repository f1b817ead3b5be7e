"""Load runner: drives `vllm.benchmarks.serve` for one server from inside the engine image.

It runs as ``python3 /quantbench/loadrunner`` with nothing but the standard library and the vLLM of the image it
runs in (Python 3.10 or newer). It imports vLLM's benchmark once, while the server is still loading, and then runs
every warm-up, load and repeat in that one process. Results go to standard output as marked lines (`output`), one
per finished pass, so a killed pod loses only the pass in flight.
"""
