"""A simulated vLLM server with planted truth, a process of its own: ``python -m simengine --port 8000 --config JSON``.

It speaks what a load generator and an operator see of vLLM: the streaming OpenAI API, /health, /v1/models, /version,
/metrics and the log. What it does not do is compute: how long anything takes is drawn from the stated model below, so
that a test knows the truth which a measurement must find. Its traps (`config.Traps`) are the ways in which a real
server, or a study of it, yields figures that must not be believed.

The model. One scheduler makes steps, as vLLM's does. Up to ``max_num_seqs`` requests run at the same time; others wait
in the order of their arrival. A step gives each running request one token, and takes

    (step_seconds + step_seconds_per_request · running + prefill_seconds_per_token · new prompt tokens)
        · start effect · pass effect / speedup

where new prompt tokens are those of requests that run for the first time in this step. So TPOT grows with concurrency,
TTFT is waiting + prefill + one step, and a longer queue is a longer TTFT. The start effect is drawn once per process and
the pass effect once per pass, both log-normal with median 1; the seed and the pass's name (from the request ids) decide
them. Steps are due at absolute times: a busy machine delays tokens, but does not lower the throughput.

``speedup`` compresses time: all that is seen, the server's own histograms among it, is that much faster.
"""
