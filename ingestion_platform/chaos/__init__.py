"""
Chaos: the platform's own path under every fault we know of, held against a run without any. For us, and for whoever wants to know what
his own declarations go through.

Belongs here: data made up from declarations, faults, broken loaders that must be found out, judging, telling. Doesn't: any of the work
itself, which is the platform's; troubles of the example business (`demo/`).

    made.py        values and rows made up from a declaration: some that fit, some that break each rule
    writing.py     rows as bytes, in the declared format
    landed.py      what is put to the test: made up, or copied from a landing zone
    processes.py   work in forked processes, and what they met
    ground.py      a deployment in a folder of its own, and workers on it
    meddling.py    what happens inside a worker: kills at steps, files that grow, errors, clocks
    small_disk.py  a disk that is full
    s3_server.py   a small S3 server on loopback, and the storm in it
    faults.py      the faults
    twins.py       for each fault a loader that doesn't survive it
    oracle.py      whether the tables are the clean run's, the ledger balances, and nothing is left over
    campaign.py    so many rounds of each, and what came of them
    command.py     `python -m ingestion_platform chaos`
"""
