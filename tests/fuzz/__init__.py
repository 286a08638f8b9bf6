"""Fuzzing: mutated files of every kind that satexport reads; none may cause a fault.

    make fuzz                                    a new seed, which is printed
    make fuzz SEED=7 COUNT=10000 SECONDS=3600    that seed again, longer

`valid` writes files of every kind, `mutations` modifies files, `kinds` defines how each kind is modified and
used, `worker` uses them in a process that may crash, `__main__` draws inputs, watches and reports. See
docs/fuzzing.md.
"""
