"""Fuzzing: mutated files of every kind that satexport reads, each of which must end well.

    make fuzz                                    a new seed, which is printed
    make fuzz SEED=7 COUNT=10000 SECONDS=3600    that seed again, longer

`valid` writes files of every kind, `mutations` changes files, `kinds` says how each kind is changed and used,
`worker` uses them in a process that may die, `__main__` draws, watches and reports. See docs/fuzzing.md.
"""
