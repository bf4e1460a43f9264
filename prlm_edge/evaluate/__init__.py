"""Evaluation: did the profile, the reasoning and the training help, and how sure are we.

    data.py -> conditions.py -> runner.py -> answers.jsonl -> metrics/ -> summary, compare, report

`prlm-edge eval` is its face. Needs the `eval` extra; nothing else in prlm_edge imports it.
"""
